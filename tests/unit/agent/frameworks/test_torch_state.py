"""What is copied comes back bit for bit, in place, and what was not there then is gone."""

import copy
import gc
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sitter_agent.frameworks.torch import TorchAdapter
from sitter_agent.frameworks.torch_memory import Staging

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05),
    "SGD-momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "Adam-single": lambda p: torch.optim.Adam(p, lr=0.01, foreach=False),
    "Adam-foreach": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
    "Adam-capturable": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), foreach=False),
    "AdamW-fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True, amsgrad=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.3),
    "Adadelta": lambda p: torch.optim.Adadelta(p),
    "Adamax": lambda p: torch.optim.Adamax(p),
    "NAdam": lambda p: torch.optim.NAdam(p),
    "RAdam": lambda p: torch.optim.RAdam(p),
    "ASGD": lambda p: torch.optim.ASGD(p),
    "Rprop": lambda p: torch.optim.Rprop(p),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3, history_size=4, line_search_fn="strong_wolfe"),
}


class Training:
    """With dropout and batch norm, so that random numbers and buffers matter."""

    def __init__(self, make: Callable[[Any], Any] = OPTIMIZERS["AdamW-fused"]) -> None:
        torch.manual_seed(7)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.optimizer = make(self.model.parameters())
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 40)
        self.adapter = TorchAdapter(self.model, self.optimizer, self.scheduler)
        self.lrs: list[float] = []

    def step(self) -> None:
        def closure() -> torch.Tensor:
            self.optimizer.zero_grad()
            loss = (self.model(torch.randn(5, 6)) - 1).square().mean()
            loss.backward()
            return loss

        self.optimizer.step(closure)
        self.scheduler.step()
        self.lrs.append(float(self.optimizer.param_groups[0]["lr"]))

    def run(self, n: int) -> None:
        for _ in range(n):
            self.step()

    def everything(self) -> dict[str, Any]:
        """A deep copy that shares nothing with the code under test."""
        return copy.deepcopy(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "rng": torch.get_rng_state(),
            }
        )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_after_a_restore_as_if_nothing_had_been(name: str) -> None:
    t = Training(OPTIMIZERS[name])
    t.run(4)
    then = t.everything()
    captured = t.adapter.capture(None)
    held = {k: v.clone() for k, v in captured.host.items()}
    t.run(5)
    end, lrs = t.everything(), t.lrs[-5:]

    for _ in range(2):  # twice from the same capture: the first time has not touched it
        assert t.adapter.restore(captured) == []
        assert same(t.everything(), then)
        assert all(p.grad is None for p in t.model.parameters())
        t.run(5)
        assert same(t.everything(), end)
        assert t.lrs[-5:] == lrs
        assert same(captured.host, held)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_back_at_step_0_poisoned_moments_are_gone(name: str) -> None:
    t = Training(OPTIMIZERS[name])
    captured = t.adapter.capture(None)
    fresh = t.everything()
    t.run(2)
    assert t.adapter.finite()
    for state in t.optimizer.state.values():
        for value in state.values():
            for tensor in value if isinstance(value, list) else [value]:
                if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                    tensor.fill_(math.nan)
    assert t.adapter.finite() == (name == "SGD")
    assert t.adapter.restore(captured) == []
    assert t.adapter.finite()
    assert same(t.everything(), fresh)


def test_parameters_stay_the_same_objects_and_groups_the_same_dicts() -> None:
    t = Training()
    captured = t.adapter.capture(None)
    t.run(2)
    later = t.adapter.capture(None)
    objects = [(p, p.data_ptr()) for p in t.model.parameters()]
    groups = [id(g) for g in t.optimizer.param_groups]
    moments = [s["exp_avg"].data_ptr() for s in t.optimizer.state.values()]
    t.run(1)
    t.adapter.restore(later)
    assert moments == [s["exp_avg"].data_ptr() for s in t.optimizer.state.values()]
    t.adapter.restore(captured)
    assert all(p is q and p.data_ptr() == at for (p, at), q in zip(objects, t.model.parameters(), strict=True))
    assert groups == [id(g) for g in t.optimizer.param_groups]
    assert t.scheduler.optimizer is t.optimizer


def test_the_memory_of_an_earlier_capture_is_used_again() -> None:
    t = Training()
    t.run(1)
    first = t.adapter.capture(None)
    places = {k: v.data_ptr() for k, v in first.host.items()}
    t.run(3)
    then = t.everything()
    second = t.adapter.capture(first)
    assert {k: v.data_ptr() for k, v in second.host.items()} == places
    assert not first.whole
    with pytest.raises(ValueError, match="overwritten in part"):
        t.adapter.restore(first)
    t.run(2)
    t.adapter.restore(second)
    assert same(t.everything(), then)
    assert t.adapter.nbytes() == second.nbytes()


def test_the_memory_is_foreseen_before_the_optimizer_has_any_state() -> None:
    t = Training(lambda p: torch.optim.Adam(p))
    foreseen = t.adapter.nbytes()
    t.run(1)
    assert foreseen == pytest.approx(t.adapter.nbytes(), rel=0.05)


def test_tied_weights_are_one_also_after_they_were_not() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    m = Tied()
    adapter = TorchAdapter(m)
    tied = adapter.capture(None)
    assert sum(t.numel() for p, t in tied.host.items() if p.startswith("model")) == 9 + 3 + 3
    m.b.weight = nn.Parameter(torch.full((3, 3), 5.0))
    untied = adapter.capture(tied)
    before = m.a.weight.detach().clone()
    with torch.no_grad():
        m.a.weight.zero_()
        m.b.weight.zero_()
    assert adapter.restore(untied) == []
    assert torch.equal(m.a.weight, before)
    assert torch.equal(m.b.weight, torch.full((3, 3), 5.0))


class Odd(nn.Module):
    """Every kind of tensor that a module may own."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)
        self.wave = nn.Parameter(torch.randn(2, 3, dtype=torch.cfloat))
        self.last = nn.Parameter(torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last))
        self.sixteen = nn.Parameter(torch.randn(3).half())
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("mask", torch.full((2, 2), -math.inf), persistent=False)
        self.register_buffer("sparse", torch.tensor([[0.0, 1.0], [2.0, 0.0]]).to_sparse())
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("view", torch.arange(8.0).reshape(2, 4).t())
        self.register_buffer("nothing", None)
        self.ghost = nn.Parameter(torch.empty(3, device="meta"))
        self.lazy = nn.LazyLinear(2)


def snapshot_of(m: nn.Module) -> dict[str, torch.Tensor]:
    found = {}
    for name, t in [*m.named_parameters(), *m.named_buffers()]:
        if t.device.type != "meta" and not torch.nn.parameter.is_lazy(t):
            found[name] = (t.detach().to_dense() if t.is_sparse else t.detach()).clone()
    return found


def test_every_kind_of_tensor_comes_back() -> None:
    m = Odd()
    adapter = TorchAdapter(m)
    assert adapter.finite()  # the mask was infinite from the start
    assert any("meta" in r for r in adapter.remarks())
    before, captured = snapshot_of(m), adapter.capture(None)
    with torch.no_grad():
        for name, t in [*m.named_parameters(), *m.named_buffers()]:
            if name in before and t.numel():
                m.get_buffer(name).add_(m.get_buffer(name)) if t.is_sparse else t.fill_(False if t.dtype is torch.bool else 9)
    captured_again = adapter.capture(adapter.capture(None))
    assert adapter.restore(captured) == []
    assert same(snapshot_of(m), before)
    assert m.last.is_contiguous(memory_format=torch.channels_last)
    assert adapter.restore(captured_again) == []
    assert m.count.item() == 9
    adapter.restore(captured)
    with torch.no_grad():
        m.wave.fill_(complex(0, math.nan))
    assert not adapter.finite()


def test_a_layer_that_came_later_is_said_to_be_missing() -> None:
    m = Odd()
    adapter = TorchAdapter(m)
    captured = adapter.capture(None)
    m.lazy(torch.ones(1, 3))
    m.count = torch.zeros(2, dtype=torch.long)
    missing = adapter.restore(captured)
    assert "model: lazy.weight was not there yet" in missing
    assert "model: count had shape [] and has [2] now" in missing


def test_several_models_share_an_optimizer_and_parameters_outside_are_covered() -> None:
    g, d, outside = nn.Linear(2, 2), nn.Linear(2, 2), nn.Parameter(torch.ones(2))
    both = torch.optim.Adam([*g.parameters(), *d.parameters(), outside], lr=0.1)
    adapter = TorchAdapter({"G": g, "D": d}, {"G": both, "D": both})
    captured = adapter.capture(None)
    before = [t.detach().clone() for t in (g.weight, d.weight, outside)]
    (g(torch.ones(1, 2)).sum() + d(torch.ones(1, 2)).sum() + outside.sum()).backward()
    both.step()
    assert adapter.steps_done() == 1
    assert adapter.restore(captured) == []
    assert all(torch.equal(a, b) for a, b in zip(before, (g.weight, d.weight, outside), strict=True))
    assert outside.grad is None
    assert len(both.state) == 0


class Average:
    """The user's own, with a state_dict."""

    def __init__(self) -> None:
        self.shadow, self.n = [torch.zeros(2)], 0

    def state_dict(self) -> dict[str, Any]:
        return {"shadow": self.shadow, "n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shadow, self.n = state["shadow"], state["n"]


def test_extra_things_go_back_too_and_what_cannot_is_said() -> None:
    m = nn.Linear(2, 2)
    ema = torch.optim.swa_utils.AveragedModel(m)
    own, scalar, generator = Average(), torch.zeros(3), torch.Generator().manual_seed(5)
    adapter = TorchAdapter(m, extra={"ema": ema, "own": own, "scalar": scalar, "gen": generator, "junk": object()})
    assert any("junk" in r for r in adapter.remarks())
    captured = adapter.capture(None)
    drawn = torch.rand(3, generator=generator)
    own.shadow[0].add_(1)
    own.n = 4
    scalar.add_(2)
    with torch.no_grad():
        m.weight.add_(1)
    ema.update_parameters(m)
    ema.update_parameters(m)
    assert adapter.restore(captured) == []
    assert (own.n, own.shadow[0].sum().item(), scalar.sum().item(), int(ema.n_averaged)) == (0, 0.0, 0.0, 0)
    assert torch.equal(torch.rand(3, generator=generator), drawn)
    own.shadow[0].add_(7)  # the thing must not hold the capture's own tensors
    assert adapter.restore(captured) == []
    assert own.shadow[0].sum().item() == 0


def test_a_group_value_that_became_a_tensor_is_written_in_place() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    early = adapter.capture(None)
    lr = torch.tensor(0.7)
    optimizer.param_groups[0]["lr"] = lr
    optimizer.param_groups[0]["initial_lr"] = 0.1
    late = adapter.capture(None)
    lr.fill_(0.9)
    adapter.restore(late)
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(0.7)
    adapter.restore(early)
    assert lr.item() == pytest.approx(0.1)
    assert optimizer.param_groups[0]["initial_lr"] == 0.1  # a scheduler lives on it


def test_a_group_that_came_later_starts_with_empty_state() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([a], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    captured = adapter.capture(None)
    optimizer.add_param_group({"params": [b]})
    a.grad = b.grad = torch.ones(2)
    optimizer.step()
    missing = adapter.restore(captured)
    assert len(missing) == 1
    assert "param groups held [1] parameters then and [1, 1] now" in missing[0]
    assert len(optimizer.state) == 0


@pytest.mark.parametrize("kind", ["lambda", "callable", "milestones", "plateau"])
def test_schedulers_come_back_without_their_functions_being_copied(kind: str) -> None:
    class Warm:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, n: int) -> float:
            self.calls += 1
            return 0.9**n

    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=1.0)
    warm = Warm()
    scheduler: Any = {
        "lambda": lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 0.9**n),
        "callable": lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, warm),
        "milestones": lambda: torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3]),
        "plateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
    }[kind]()
    adapter = TorchAdapter(None, optimizer, scheduler)

    def run(n: int) -> list[float]:
        out = []
        for _ in range(n):
            optimizer.step()
            scheduler.step(1.0) if kind == "plateau" else scheduler.step()
            out.append(optimizer.param_groups[0]["lr"])
        return out

    run(1)
    captured = adapter.capture(None)
    calls = warm.calls
    first = run(4)
    assert adapter.restore(captured) == []
    assert warm.calls == calls
    assert run(4) == first
    assert adapter.restore(captured) == []
    assert run(4) == first


def test_a_scheduler_that_keeps_the_model_does_not_copy_it() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    class Clingy(torch.optim.lr_scheduler.ExponentialLR):
        def __init__(self) -> None:
            self.model = model
            super().__init__(optimizer, 0.5)

    scheduler = Clingy()
    adapter = TorchAdapter(model, optimizer, scheduler)
    captured = adapter.capture(None)
    optimizer.step()
    scheduler.step()
    assert adapter.restore(captured) == []
    assert scheduler.model is model
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_part_that_will_not_load_is_told_and_the_rest_goes_back() -> None:
    class Stubborn(Average):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise KeyError("no")

    m = nn.Linear(2, 2)
    adapter = TorchAdapter(m, scheduler=object(), extra={"own": Stubborn()})
    assert any("has no state_dict" in r for r in adapter.remarks())
    captured, before = adapter.capture(None), m.weight.detach().clone()
    with torch.no_grad():
        m.weight.zero_()
    missing = adapter.restore(captured)
    assert torch.equal(m.weight, before)
    assert sorted(missing) == ["extra own (KeyError: 'no')", "scheduler is not in this state"]
    with pytest.raises(TypeError, match="expected a capture of a torch training"):
        adapter.restore({"model": 1})


def test_a_grad_scaler_goes_back() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    m = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
    adapter = TorchAdapter(m, optimizer, scaler=scaler)
    captured = adapter.capture(None)
    scaler.scale(m(torch.ones(1, 2)).sum()).backward()
    m.weight.grad.fill_(math.inf)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 4.0
    assert adapter.restore(captured) == []
    assert scaler.get_scale() == 8.0


def test_a_forgotten_average_is_named_and_a_covered_one_is_not() -> None:
    m = nn.Sequential(nn.Linear(7, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
    assert TorchAdapter(m, optimizer).remarks() == []
    compiled_like = nn.Sequential(m)  # shares its parameters
    ema = torch.optim.swa_utils.AveragedModel(m)
    said = TorchAdapter(m, optimizer).remarks()
    assert len(said) == 1
    assert said[0].startswith("1 module shaped like the model")
    assert TorchAdapter(m, optimizer, extra={"ema": ema}).remarks() == []
    del compiled_like


def test_whose_schedule_it_is_is_told_by_the_param_groups() -> None:
    p = nn.Parameter(torch.ones(1))
    mine, other = torch.optim.SGD([p], lr=0.1), torch.optim.SGD([p], lr=0.1)

    class Wrapper:
        def __init__(self, inner: Any) -> None:
            self.optimizer = inner
            self.param_groups = inner.param_groups

    scheduler = torch.optim.lr_scheduler.StepLR(mine, 3)
    scheduler.optimizer = Wrapper(mine)
    assert TorchAdapter(None, mine, scheduler).remarks() == []
    said = TorchAdapter(None, other, scheduler).remarks()
    assert len(said) == 1
    assert "drives an optimizer that was not given" in said[0]


@pytest.mark.parametrize("size", [64, 1 << 12, 1 << 20])
def test_staging_brings_over_every_byte_whatever_its_size(size: int) -> None:
    torch.manual_seed(0)
    sources = [torch.randn(n) for n in (1, 7, 100, 5000)] + [torch.arange(300, dtype=torch.int16), torch.ones(3, dtype=torch.bool)]
    targets = [torch.zeros_like(s) for s in sources]
    Staging(size).fetch(sources, targets)
    assert all(torch.equal(s, t) for s, t in zip(sources, targets, strict=True))


def test_a_compiled_model_is_seen_bare() -> None:
    m = nn.Linear(2, 2)
    compiled = torch.compile(m, backend="eager")
    captured = TorchAdapter(compiled).capture(None)
    assert list(captured.models[""].layout) == ["weight", "bias"]


def test_a_dead_model_of_an_earlier_attempt_is_no_forgotten_average() -> None:
    """A notebook's last attempt: nobody holds it any more, and the garbage collector has only not been by."""
    m = nn.Sequential(nn.Linear(11, 3), nn.Linear(3, 5))
    earlier = nn.Sequential(nn.Linear(11, 3), nn.Linear(3, 5))
    earlier.me = [earlier]  # a cycle: only the collector frees it
    gc.disable()
    try:
        assert len(TorchAdapter(m).remarks()) == 1
        del earlier
        assert TorchAdapter(m).remarks() == []
    finally:
        gc.enable()


class Expanded(nn.Module):
    """A constant expanded over its shape, as some models register it: its memory cannot be written element by element."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.register_buffer("ones", torch.ones(1).expand(10))
        self.last = nn.Linear(3, 3)


def test_a_buffer_that_cannot_be_written_does_not_keep_the_model_from_coming_back() -> None:
    m = Expanded()
    adapter = TorchAdapter(m, torch.optim.SGD(m.parameters(), lr=0.1))
    before, captured = snapshot_of(m), adapter.capture(None)
    with torch.no_grad():
        for p in m.parameters():
            p.fill_(math.nan)
    assert adapter.restore(captured) == []  # the constant is what it was
    assert same(snapshot_of(m), before)
    m.ones = torch.full((1,), 2.0).expand(10)
    with torch.no_grad():
        m.last.bias.fill_(math.nan)
    assert adapter.restore(captured) == ["model: ones would not be written in place"]
    assert torch.equal(m.last.bias, before["last.bias"])


def test_a_mask_that_was_infinite_at_start_stays_so_wherever_it_lies() -> None:
    """``model.to()`` and ``model.half()`` put new tensors in the place of buffers."""
    m = nn.Linear(3, 3)
    m.register_buffer("mask", torch.full((3, 3), -math.inf))
    adapter = TorchAdapter(m)
    m.mask = m.mask.clone()
    assert adapter.finite()
    with torch.no_grad():
        m.bias[0] = math.nan
    assert not adapter.finite()


def test_copies_of_the_optimizer_carry_no_hooks_of_ours() -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    adapter.knobs()[0].change("scale", 0.5, group=None, hold=False)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        twin.param_groups[0]["params"][0].grad = torch.ones(1)
        twin.step()
        assert twin.param_groups[0]["params"][0].item() == pytest.approx(0.9)
    assert adapter.steps_done() == 0


def test_a_state_that_the_script_loads_in_midst_goes_on_under_our_hooks() -> None:
    """``load_state_dict`` puts new group dicts and new state in the optimizer; a restore after it finds its places."""
    m = nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(m.parameters(), lr=0.1)
    adapter = TorchAdapter(m, optimizer)

    def step() -> None:
        m(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    theirs = copy.deepcopy((m.state_dict(), optimizer.state_dict()))
    step()
    captured, before = adapter.capture(None), snapshot_of(m)
    moments = [s["exp_avg"].clone() for s in optimizer.state.values()]
    m.load_state_dict(theirs[0])
    optimizer.load_state_dict(theirs[1])
    step()
    assert adapter.steps_done() == 3
    assert adapter.restore(captured) == []
    assert same(snapshot_of(m), before)
    assert all(torch.equal(s["exp_avg"], then) for s, then in zip(optimizer.state.values(), moments, strict=True))
    adapter.knobs()[0].change("scale", 0.5, group=None, hold=False)
    step()
    assert adapter.sample(3)["lr"] == pytest.approx(0.05)
