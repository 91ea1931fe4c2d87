"""A knob is bounded, says what it did, and refuses in one sentence what it cannot do."""

from typing import Any

import pytest
import torch
from torch import nn

from sitter_agent.frameworks.torch import TorchAdapter


def weights(n: int = 1) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2, 2)) for _ in range(n)]


def knobs_of(optimizer: Any) -> dict[str, Any]:
    return {k.spec.name: k for k in TorchAdapter(None, optimizer).knobs()}


def change(knob: Any, op: str, amount: float, group: str | None = None, hold: bool = False) -> tuple[float, float]:
    found: tuple[float, float] = knob.change(op, amount, group=group, hold=hold)
    return found


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), ["lr"]),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4), ["lr", "weight_decay", "momentum"]),
        (lambda p: torch.optim.Adam(p), ["lr", "momentum", "beta2"]),
        (lambda p: torch.optim.AdamW(p), ["lr", "weight_decay", "momentum", "beta2"]),
        (lambda p: torch.optim.Muon(p), ["lr", "weight_decay", "momentum"]),
        (lambda p: torch.optim.RMSprop(p), ["lr"]),
        (lambda p: torch.optim.LBFGS(p), ["lr"]),
    ],
)
def test_a_knob_is_offered_where_the_optimizer_has_it(optimizer: Any, names: list[str]) -> None:
    assert list(knobs_of(optimizer(weights()))) == names


def test_scales_and_bounds_are_those_of_the_kind_of_decay() -> None:
    decoupled = knobs_of(torch.optim.AdamW(weights(), weight_decay=0.01))["weight_decay"].spec
    coupled = knobs_of(torch.optim.Adam(weights(), weight_decay=1e-4))["weight_decay"].spec
    wild = knobs_of(torch.optim.SGD(weights(), weight_decay=0.5))["weight_decay"].spec
    assert (decoupled.low, decoupled.high, decoupled.scale) == (1e-3, 0.3, "log")
    assert (coupled.low, coupled.high) == (1e-8, 1e-2)
    assert (wild.low, wild.high) == (1e-8, 0.5)  # what the script itself uses is always within
    beta2 = knobs_of(torch.optim.Adam(weights()))["beta2"].spec
    assert (beta2.scale, beta2.high) == ("log1m", 0.99999)


def test_momentum_and_betas_move_in_one_minus_beta() -> None:
    p = weights()[0]
    optimizer = torch.optim.Adam([p], betas=(0.9, 0.99))
    adapter = TorchAdapter(None, optimizer)
    knobs = {k.spec.name: k for k in adapter.knobs()}
    assert change(knobs["momentum"], "scale", 0.5) == (0.9, pytest.approx(0.95))
    assert change(knobs["beta2"], "value", 0.999) == (0.99, pytest.approx(0.999))
    seen = []
    optimizer.register_step_pre_hook(lambda o, a, k: seen.append(o.param_groups[0]["betas"]))
    p.grad = torch.ones(2, 2)
    optimizer.step()
    assert seen == [(pytest.approx(0.95), pytest.approx(0.999))]
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    assert knobs["momentum"].scheduled() == 0.9
    with pytest.raises(ValueError, match=r"momentum would be 0\.4: expected 0\.5 to 0\.9999"):
        change(knobs["momentum"], "value", 0.4)


def test_an_absolute_rate_is_relative_to_the_schedule_and_hold_pins_it() -> None:
    p = weights()[0]
    optimizer = torch.optim.SGD([p], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    adapter = TorchAdapter(None, optimizer, scheduler)
    (knob,) = adapter.knobs()
    used = []
    optimizer.register_step_pre_hook(lambda o, a, k: used.append(o.param_groups[0]["lr"]))

    def turn() -> float:
        optimizer.step()
        scheduler.step()
        return used[-1]

    assert change(knob, "value", 0.05) == (0.1, pytest.approx(0.05))
    assert [turn(), turn()] == [pytest.approx(0.05), pytest.approx(0.025)]
    assert (knob.scale, knob.held) == (pytest.approx(0.5), False)
    assert change(knob, "value", 0.2, hold=True) == (pytest.approx(0.0125), 0.2)
    assert [turn(), turn()] == [0.2, 0.2]
    assert knob.held
    assert change(knob, "scale", 0.5) == (0.2, 0.1)  # stays pinned
    assert turn() == 0.1
    assert (knob.held, knob.effective(), knob.scheduled()) == (True, 0.1, pytest.approx(0.1 / 32))
    assert change(knob, "value", 0.003125) == (0.1, pytest.approx(0.003125))  # ends the pin
    assert (knob.held, knob.scale) == (False, pytest.approx(1.0))
    assert turn() == pytest.approx(0.003125)


def test_a_scale_given_back_leaves_nothing_behind() -> None:
    optimizer = torch.optim.SGD(weights(), lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    (knob,) = adapter.knobs()
    change(knob, "scale", 0.3)
    change(knob, "scale", 1 / 0.3)
    assert knob.scale == 1.0
    assert not adapter._hooks[""]._active


def test_groups_that_differ_take_no_single_value_but_a_common_scale() -> None:
    a, b = weights(2)
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1, "name": "body"}, {"params": [b], "lr": 0.4}])
    adapter = TorchAdapter(None, optimizer)
    (knob,) = adapter.knobs()
    assert knob.spec.groups == ["body", "1"]
    with pytest.raises(ValueError, match=r"the groups differ \(body 0.1, 1 0.4\)"):
        change(knob, "value", 0.2)
    with pytest.raises(ValueError, match="no param group is named 'head'; there are body, 1"):
        change(knob, "value", 0.2, group="head")
    assert change(knob, "scale", 0.5) == (0.1, 0.05)
    assert change(knob, "value", 0.3, group="1") == (0.2, pytest.approx(0.3))
    assert change(knob, "scale", 2.0) == (0.05, 0.1)
    used = []
    optimizer.register_step_pre_hook(lambda o, a, k: used.append([g["lr"] for g in o.param_groups]))
    optimizer.step()
    assert used == [[0.1, pytest.approx(0.6)]]


def test_groups_without_decay_do_not_stand_in_the_way() -> None:
    a, b = weights(2)
    optimizer = torch.optim.AdamW([{"params": [a], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}])
    knob = knobs_of(optimizer)["weight_decay"]
    assert change(knob, "value", 0.05) == (0.1, pytest.approx(0.05))
    used = []
    optimizer.register_step_pre_hook(lambda o, a, k: used.append([g["weight_decay"] for g in o.param_groups]))
    optimizer.step()
    assert used == [[pytest.approx(0.05), 0.0]]
    with pytest.raises(ValueError, match="weight_decay is 0 here"):
        change(knob, "scale", 2.0, group="1")


def test_a_slip_of_the_finger_is_refused_and_nothing_has_changed() -> None:
    optimizer = torch.optim.SGD(weights(), lr=3e-4)
    knob = knobs_of(optimizer)["lr"]
    for op, amount in [("value", 3.0), ("scale", 1e4), ("scale", 0.0), ("scale", -1.0), ("value", float("nan")), ("value", 1e-12)]:
        with pytest.raises(ValueError, match="lr"):
            change(knob, op, amount)
    assert (knob.scale, knob.held, knob.effective()) == (1.0, False, 3e-4)


def test_a_value_in_warm_up_is_judged_by_what_it_means_at_the_peak() -> None:
    optimizer = torch.optim.SGD(weights(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: n / 1000)
    knob = knobs_of(optimizer)["lr"]
    with pytest.raises(ValueError, match="the schedule asks for 0 now"):
        change(knob, "value", 0.1)
    optimizer.step()
    scheduler.step()
    with pytest.raises(ValueError, match=r"lr × 1e\+03 would be 100 where the schedule is at its 0.1"):
        change(knob, "value", 0.1)
    assert change(knob, "value", 0.1, hold=True) == (pytest.approx(1e-4), 0.1)


def test_at_the_end_of_a_cosine_a_small_cut_is_still_possible() -> None:
    optimizer = torch.optim.SGD(weights(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1e-9)
    knob = knobs_of(optimizer)["lr"]
    assert change(knob, "scale", 0.5) == (pytest.approx(1e-10), pytest.approx(5e-11))
    assert scheduler.get_last_lr()[0] == pytest.approx(1e-10)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: torch.optim.ASGD(p), "one step late"),
        (lambda p: torch.optim.LBFGS(p), "quasi-Newton"),
        (lambda p: torch.optim.LBFGS(p, line_search_fn="strong_wolfe"), "line search starts from it"),
        (lambda p: torch.optim.Adafactor(p), "only a cap"),
        (lambda p: torch.optim.AdamW(p), ""),
    ],
)
def test_a_partial_effect_is_said(make: Any, said: str) -> None:
    adapter = TorchAdapter(None, make(weights()))
    note = next(k for k in adapter.knobs() if k.spec.name == "lr").spec.note
    assert (said in note) if said else note == ""
    assert bool(adapter.remarks()) == bool(said)


def test_a_rate_without_any_effect_is_refused() -> None:
    rprop = knobs_of(torch.optim.Rprop(weights()))["lr"]
    with pytest.raises(ValueError, match="no effect: Rprop steps by the signs of gradients"):
        change(rprop, "scale", 0.5)
    p = weights()[0]
    optimizer = torch.optim.Adafactor([p], lr=1.0)
    knob = knobs_of(optimizer)["lr"]
    for _ in range(4):
        p.grad = torch.ones(2, 2)
        optimizer.step()
    with pytest.raises(ValueError, match=r"lr 1 → 0.6 would change nothing: this optimizer uses at most 0.5"):
        change(knob, "scale", 0.6)
    before = p.detach().clone()
    change(knob, "scale", 0.001)
    optimizer.step()
    assert (before - p).abs().max() < 0.002


def test_settings_can_be_taken_and_put_again() -> None:
    def make() -> Any:
        a, b = weights(2)
        return torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.4}])

    (one,), (two,) = (TorchAdapter(None, make()).knobs() for _ in range(2))
    change(one, "scale", 0.5, group="1")
    change(one, "value", 0.07, group="0", hold=True)
    two.put(one.settings())
    assert two.settings() == one.settings()
    assert (two.effective(), two.held) == (0.07, True)
    two.held = False
    two.scale = 0.2
    assert (two.effective(), two.scale) == (pytest.approx(0.02), 0.2)
