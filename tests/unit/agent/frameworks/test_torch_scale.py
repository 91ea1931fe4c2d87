"""The scale is on while the optimizer steps, and no scheduler ever sees it."""

import math
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as sched
from torch.optim.swa_utils import SWALR

from sitter_agent.frameworks import torch_scale
from sitter_agent.frameworks.torch import TorchAdapter

STEPS = 9
LR = 0.01

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=LR),
    "SGD-momentum": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=LR),
    "Adam-foreach": lambda p: torch.optim.Adam(p, lr=LR, foreach=True, amsgrad=True),
    "AdamW-fused": lambda p: torch.optim.AdamW(p, lr=LR, fused=True),
    "AdamW-tensor-lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(LR), foreach=False),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=LR, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=LR),
    "Adadelta": lambda p: torch.optim.Adadelta(p, lr=LR),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=LR),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=LR),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=LR),
    "ASGD": lambda p: torch.optim.ASGD(p, lr=LR),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=LR),
    "Muon": lambda p: torch.optim.Muon(p, lr=LR),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=LR, max_iter=2),
}

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: sched.LambdaLR(o, lambda n: 0.9**n),
    "MultiplicativeLR": lambda o: sched.MultiplicativeLR(o, lambda n: 0.95),
    "StepLR": lambda o: sched.StepLR(o, 2),
    "MultiStepLR": lambda o: sched.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: sched.ConstantLR(o, total_iters=4),
    "LinearLR": lambda o: sched.LinearLR(o, total_iters=4),
    "ExponentialLR": lambda o: sched.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: sched.SequentialLR(o, [sched.LinearLR(o, total_iters=3), sched.CosineAnnealingLR(o, 6)], [3]),
    "CosineAnnealingLR": lambda o: sched.CosineAnnealingLR(o, 5, eta_min=1e-4),
    "ChainedScheduler": lambda o: sched.ChainedScheduler([sched.ExponentialLR(o, 0.9), sched.StepLR(o, 3)]),
    "ReduceLROnPlateau": lambda o: sched.ReduceLROnPlateau(o, patience=1, factor=0.5),
    "CyclicLR": lambda o: sched.CyclicLR(o, LR / 5, LR, step_size_up=3, cycle_momentum="momentum" in o.defaults or "betas" in o.defaults),
    "CosineAnnealingWarmRestarts": lambda o: sched.CosineAnnealingWarmRestarts(o, 3),
    "OneCycleLR": lambda o: sched.OneCycleLR(o, LR, total_steps=20, cycle_momentum="momentum" in o.defaults or "betas" in o.defaults),
    "PolynomialLR": lambda o: sched.PolynomialLR(o, total_iters=8, power=2.0),
    "SWALR": lambda o: SWALR(o, swa_lr=LR / 10, anneal_epochs=4),
}


def plain(value: Any) -> Any:
    return float(value) if isinstance(value, torch.Tensor) else value


def values(group: dict[str, Any]) -> dict[str, Any]:
    return {k: plain(group[k]) for k in ("lr", "momentum", "betas", "weight_decay") if k in group}


class Training:
    """A small regression, the same for every seed; ``used`` are the group's values while the optimizer stepped."""

    def __init__(self, make_optimizer: Callable[[Any], Any], make_scheduler: Callable[[Any], Any] | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(4, 3, bias=False)
        self.optimizer = make_optimizer(self.model.parameters())
        self.scheduler = make_scheduler(self.optimizer) if make_scheduler else None
        self.data = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
        self.used: list[dict[str, Any]] = []
        self.between: list[dict[str, Any]] = []

    def watch(self) -> "Training":
        """Registered after the adapter's hook, so it sees what ``step()`` will see."""
        self.optimizer.register_step_pre_hook(lambda o, a, k: self.used.append(values(o.param_groups[0])))
        return self

    def loss(self) -> torch.Tensor:
        return (self.model(self.data) - 1).square().mean()

    def step(self) -> None:
        def closure() -> torch.Tensor:
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            return loss

        loss = self.optimizer.step(closure)
        if isinstance(self.scheduler, sched.ReduceLROnPlateau):
            self.scheduler.step(1.0)
        elif self.scheduler is not None:
            self.scheduler.step()
        self.between.append(values(self.optimizer.param_groups[0]))
        assert loss is not None

    def weights(self) -> torch.Tensor:
        return self.model.weight.detach().clone()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_optimizer_uses_schedule_times_scale_and_the_schedule_goes_its_own_way(scheduler: str) -> None:
    for name, make in OPTIMIZERS.items():
        alone = Training(make, SCHEDULERS[scheduler]).watch()
        for _ in range(STEPS):
            alone.step()

        scaled = Training(make, SCHEDULERS[scheduler])
        adapter = TorchAdapter(scaled.model, scaled.optimizer, scaled.scheduler)
        scaled.watch()
        knob = next(k for k in adapter.knobs() if k.spec.name == "lr")
        for i in range(STEPS):
            if i == 2:
                knob.change("scale", 0.5, group=None, hold=False)
            scaled.step()

        assert scaled.between == alone.between, (name, scheduler)
        want = [u["lr"] * (0.5 if i >= 2 else 1.0) for i, u in enumerate(alone.used)]
        got = [u["lr"] for u in scaled.used]
        if "tensor" in name:  # a tensor multiplies in float32
            assert got == [float(torch.tensor(u["lr"]) * (0.5 if i >= 2 else 1.0)) for i, u in enumerate(alone.used)]
        else:
            assert got == want, (name, scheduler)

        by_hand = Training(make)
        for used in scaled.used:
            group = by_hand.optimizer.param_groups[0]
            for key, value in used.items():
                if isinstance(group[key], torch.Tensor):
                    group[key].fill_(value)
                else:
                    group[key] = value
            by_hand.step()
        assert torch.equal(by_hand.weights(), scaled.weights()), (name, scheduler)
        adapter.close()


def lr_of(adapter: TorchAdapter) -> Any:
    return next(k for k in adapter.knobs() if k.spec.name == "lr")


def test_super_step_is_scaled_once_and_counted_once() -> None:
    torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)  # patches SGD.step, so that super().step() fires its hooks too
    seen: list[float] = []

    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(self.param_groups[0]["lr"])
            out = super().step(closure)
            seen.append(self.param_groups[0]["lr"])
            return out

    p = nn.Parameter(torch.ones(1))
    optimizer = Twice([p], lr=1.0)
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.25, group=None, hold=False)
    for _ in range(2):
        p.grad = torch.ones(1)
        optimizer.step()
    assert seen == [0.25] * 4
    assert p.item() == 0.5
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert adapter.steps_done() == 2


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
def test_an_exception_inside_step_leaves_no_scale_behind_for_the_scheduler(lr: Any) -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=lr)
    scheduler = sched.ExponentialLR(optimizer, 0.5)
    adapter = TorchAdapter(None, optimizer, scheduler)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)

    def explode() -> float:
        raise RuntimeError("out of memory")

    try:
        optimizer.step(explode)
    except RuntimeError:
        pass
    assert plain(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1)
    scheduler.step()
    assert plain(optimizer.param_groups[0]["lr"]) == pytest.approx(0.05)
    p.grad = torch.ones(1)
    optimizer.step()
    assert p.item() == pytest.approx(1 - 0.025)
    assert adapter.steps_done() == 1


def test_a_kept_traceback_is_healed_at_the_safe_point_and_at_the_next_step() -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    kept = []

    def explode() -> float:
        raise RuntimeError("kept")

    for heal in (lambda: adapter.sample(0), lambda: optimizer.step()):
        try:
            optimizer.step(explode)
        except RuntimeError as e:
            kept.append(e)  # its traceback holds the frame of the step
        assert optimizer.param_groups[0]["lr"] == 0.05
        heal()
        assert optimizer.param_groups[0]["lr"] == 0.1
    lr_of(adapter).change("scale", 2.0, group=None, hold=False)

    def lets_go_of_the_old_ones() -> float:
        kept.clear()
        assert optimizer.param_groups[0]["lr"] == 0.1
        return 0.0

    lr_of(adapter).change("scale", 3.0, group=None, hold=False)

    def kept_die_inside_a_later_step() -> float:
        kept.clear()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3)
        return 0.0

    optimizer.step(kept_die_inside_a_later_step)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_group_without_a_rate_and_a_rate_shared_as_a_tensor() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    shared = torch.tensor(0.5)
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=shared)
    assert optimizer.param_groups[0]["lr"] is optimizer.param_groups[1]["lr"]
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    a.grad = b.grad = torch.ones(1)
    optimizer.step()
    assert (a.item(), b.item(), shared.item()) == (0.75, 0.75, 0.5)
    adapter.close()

    class OwnRate(torch.optim.SGD):
        """As HF's Adafactor with relative_step: the group says lr=None."""

    without = OwnRate([a], lr=0.1)
    without.param_groups[0]["lr"] = None
    assert [k.spec.name for k in TorchAdapter(None, without).knobs()] == []


def test_a_rate_that_becomes_none_later_breaks_nothing() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.1}])
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    optimizer.param_groups[1]["lr"] = None
    a.grad = torch.ones(1)
    optimizer.step()
    assert a.item() == pytest.approx(0.95)
    assert optimizer.param_groups[1]["lr"] is None


def test_a_group_added_later_is_scaled_too() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([a], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    optimizer.add_param_group({"params": [b], "lr": 0.2})
    a.grad = b.grad = torch.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (pytest.approx(0.95), pytest.approx(0.9))


def test_a_rate_set_by_the_step_itself_is_left_alone() -> None:
    class WarmsUp(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.param_groups[0]["lr"] = 0.7
            return super().step(closure)

    optimizer = WarmsUp([nn.Parameter(torch.ones(1))], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.7


def test_closing_takes_every_hook_off() -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    adapter.close()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    p.grad = torch.ones(1)
    optimizer.step()
    assert p.item() == pytest.approx(0.9)


def test_what_fails_in_our_hook_does_not_reach_the_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    p.grad = torch.ones(1)
    optimizer.param_groups[0]["lr"] = math.nan
    monkeypatch.setattr(adapter._hooks[""], "_put_on", lambda o: 1 / 0)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    optimizer.step()
    assert p.item() == pytest.approx(0.8)
    assert capsys.readouterr().err.count("ZeroDivisionError") == 1
    assert lr_of(adapter).scale == 1.0


def test_a_signal_handler_of_the_script_that_raises_in_our_hook_is_the_script_s(monkeypatch: pytest.MonkeyPatch) -> None:
    class TimeIsUpError(Exception):
        pass

    def notice(*_: Any) -> None:
        raise TimeIsUpError

    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    put_on = adapter._hooks[""]._put_on
    before = signal.signal(signal.SIGUSR2, notice)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(adapter._hooks[""], "_put_on", lambda o: (put_on(o), signal.raise_signal(signal.SIGUSR2)))
            with pytest.raises(TimeIsUpError):
                optimizer.step()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert optimizer.param_groups[0]["lr"] == 0.1
    p.grad = torch.ones(1)
    optimizer.step()
    assert p.item() == pytest.approx(0.95)


def test_optimizers_given_as_a_dict_count_full_turns_of_the_first() -> None:
    g, d = nn.Linear(2, 1), nn.Linear(2, 1)
    og, od = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(d.parameters(), lr=0.4)
    adapter = TorchAdapter({"G": g, "D": d}, {"G": og, "D": od})
    knob = lr_of(adapter)
    assert knob.spec.groups == ["G", "D"]
    knob.change("scale", 0.5, group="D", hold=False)
    for _ in range(3):
        for _ in range(2):
            d(torch.ones(1, 2)).sum().backward()
            od.step()
        g(torch.ones(1, 2)).sum().backward()
        og.step()
    assert adapter.steps_done() == 3
    sample = adapter.sample(3)
    assert (sample["lr"], sample["lr_scheduled"]) == (0.1, 0.1)
    assert (sample["lr/D"], sample["lr_scheduled/D"]) == (0.2, 0.4)
    assert {"grad_norm", "grad_norm/D"} <= set(sample)
    assert TorchAdapter(g).steps_done() is None


class Boxed:
    """As accelerate's and Lightning's wrappers: delegates, and has no hooks of its own."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


def test_the_optimizer_inside_a_wrapper_is_the_one_that_is_hooked() -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, Boxed(Boxed(optimizer)))
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    p.grad = torch.ones(1)
    optimizer.step()
    assert p.item() == pytest.approx(0.95)


def test_a_fused_step_that_the_grad_scaler_skipped_is_not_counted() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    adapter = TorchAdapter(model, optimizer, scaler=scaler)
    before = model.weight.detach().clone()
    for bad in (True, False):
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(1, 2)).sum()).backward()
        if bad:
            model.weight.grad[0, 0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(before, model.weight) == bad
        assert ("grad_norm" in adapter.sample(0)) != bad
    assert adapter.steps_done() == 1


def test_the_gradient_norm_is_unscaled_under_a_grad_scaler() -> None:
    model = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    adapter = TorchAdapter(model, optimizer, scaler=scaler)
    scaler.scale(model(torch.tensor([[3.0, 0.0, 4.0]])).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert adapter.sample(1)["grad_norm"] == pytest.approx(5.0)


def test_a_compiled_step_with_a_float_rate_goes_on() -> None:
    torch._dynamo.reset()
    p = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    step = torch.compile(optimizer.step, backend="eager")
    lr_of(adapter).change("scale", 0.5, group=None, hold=False)
    for _ in range(3):
        p.grad = torch.ones(3)
        step()
    assert adapter.steps_done() == 3
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert torch.allclose(p, torch.full((3,), 1 - 3 * 0.05), atol=1e-4)
    adapter.close()
    torch._dynamo.reset()


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
def test_an_interrupt_between_any_two_lines_of_our_hooks_leaves_no_scale_behind(lr: Any) -> None:
    """Ctrl-C that the script catches, at every line of the hooks in turn: what its scheduler finds then is its own rate."""
    start = lr.clone() if isinstance(lr, torch.Tensor) else lr
    at = 0
    interrupted = True
    while interrupted:
        p = nn.Parameter(torch.ones(1))
        p.grad = torch.ones(1)
        optimizer = torch.optim.SGD([p], lr=start.clone() if isinstance(start, torch.Tensor) else start)
        scheduler = sched.ExponentialLR(optimizer, 0.5)
        adapter = TorchAdapter(None, optimizer, scheduler)
        lr_of(adapter).change("scale", 0.5, group=None, hold=False)
        interrupted = interrupted_at_line(at, optimizer.step)
        assert plain(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1), f"after an interrupt at line event {at}"
        scheduler.step()
        optimizer.step()
        assert plain(optimizer.param_groups[0]["lr"]) == pytest.approx(0.05), f"after an interrupt at line event {at}"
        assert plain(adapter.sample(1)["lr"]) == pytest.approx(0.025)
        adapter.close()
        at += 1
    assert at > 20


def interrupted_at_line(at: int, what: Callable[[], Any]) -> bool:
    """Raise KeyboardInterrupt at the ``at``-th line that runs in the hooks' own file, and catch it; False where so many do not run."""
    left, file = at, torch_scale.__file__

    def lines(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != file or frame.f_code.co_name in ("__del__", "_ended", "heal"):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return lines

    before = sys.gettrace()
    sys.settrace(lines)
    try:
        what()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        torch.set_grad_enabled(True)  # a tracer also raises where no interrupt can: at the end of a `with`, before it is left
    return False
