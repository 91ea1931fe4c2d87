"""What is seen of the layers is right, comes when it is due, and changes nothing."""

import gc
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitter_agent.frameworks import torch_kept, torch_layer_meter, torch_scale
from sitter_agent.frameworks.torch import TorchAdapter
from sitter_agent.frameworks.torch_layer_meter import COST_SHARE, EVERY, FIRST, UNTIMED, LayerMeter
from sitter_agent.frameworks.torch_scale import StepHooks


def told(lot: Any) -> dict[str, float]:
    """All that a lot says."""
    return {name: value for one in lot.values([v.tolist() for v in lot.vectors]) for name, value in one.items()} if lot else {}


def seen(adapter: TorchAdapter, step: int = 0) -> dict[str, float]:
    return told(adapter.sample(step).get("grad_norm.*"))


def norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)


def backward(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    model.zero_grad()
    model(torch.randn(5, 6, dtype=dtype)).square().mean().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_norms_and_ratios_are_those_of_the_step(dtype: torch.dtype, make: Any) -> None:
    model = network(dtype)
    optimizer = make(model.parameters(), lr=0.05)
    adapter = TorchAdapter(model, optimizer)
    backward(model, dtype)
    before = {i: [p.detach().clone() for p in model[i].parameters()] for i in (0, 2)}
    optimizer.step()
    found = seen(adapter)
    assert list(found) == ["grad_norm.0", "grad_norm.2", "update_ratio.0", "update_ratio.2"]
    near = 1e-2 if dtype is torch.bfloat16 else 1e-5
    for i in (0, 2):
        after = [p.detach() for p in model[i].parameters()]
        moved = norm([a.double() - b.double() for a, b in zip(after, before[i], strict=True)])
        assert found[f"grad_norm.{i}"] == pytest.approx(norm([p.grad for p in model[i].parameters()]), rel=near)
        assert found[f"update_ratio.{i}"] == pytest.approx(moved / norm(before[i]), rel=near)


def steps_told(n: int) -> list[int]:
    p = nn.Parameter(torch.ones(2))
    layer = nn.Linear(1, 1)
    layer.weight = p
    hooks = StepHooks(torch.optim.SGD([p], lr=0.1), "")
    clock = iter(range(10**9))
    meter = LayerMeter({"": layer}, [hooks], clock=lambda: float(next(clock)) / 1e6)
    meter._began = (-1e9, 0.0)  # a long run: every look can be afforded
    found = []
    for i in range(1, n + 1):
        p.grad = torch.ones(2)
        hooks.optimizer.step()
        meter.turns += 1
        if meter.turns >= meter.next and told(meter.turn()):
            found.append(i)
    return found


def test_the_first_steps_are_seen_and_then_every_hundredth() -> None:
    assert steps_told(450) == [*FIRST, 100, 200, 300, 400]


class Clock:
    """Time that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_looks_are_rarer_where_they_are_dear(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, model = Clock(), nn.Linear(2, 2)
    hooks = StepHooks(torch.optim.SGD(model.parameters(), lr=0.1), "")
    meter = LayerMeter({"": model}, [hooks], clock)
    measure = torch._foreach_norm

    def costly(*args: Any, **kwargs: Any) -> Any:
        clock.now += share / 3  # of a step; three times a look
        return measure(*args, **kwargs)

    monkeypatch.setattr(torch, "_foreach_norm", costly)
    found, paid = [], 0.0
    for i in range(1, 8001):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        clock.now += 1.0
        begun = clock.now
        hooks.optimizer.step()
        paid += clock.now - begun
        meter.turns += 1
        if meter.turns >= meter.next and told(meter.turn()):
            found.append(i)
    assert found[: len(FIRST)] == list(FIRST)
    assert paid <= COST_SHARE * clock.now + share
    affordable = COST_SHARE * 8000 / (UNTIMED * share)
    assert len(found) == pytest.approx(min(len(FIRST) + 8000 / EVERY, affordable), rel=0.2)


def test_layers_take_turns_where_all_are_too_much_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_kept, "COPY_BYTES", 3 * 4096)
    model = nn.Sequential(*[nn.Linear(31, 31) for _ in range(5)])  # 3,844 bytes and 124: one page and 512 bytes each
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    rounds = []
    for step in range(8):
        model(torch.randn(4, 31)).square().sum().backward()
        optimizer.step()
        found = seen(adapter, step)
        if found:
            assert sum(name.startswith("grad_norm.") for name in found) == 5
            rounds.append([name for name in found if name.startswith("update_ratio.")])
    assert rounds == [[f"update_ratio.{i}" for i in group] for group in ([0, 1], [2, 3], [4], [0, 1])]
    assert sum(room.numel() for room in adapter._layers.kept._room.values()) <= 3 * 4096


def test_of_a_layer_that_is_too_large_rows_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_kept, "COPY_BYTES", 1 << 16)
    model = nn.Embedding(5000, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    model.weight.grad = torch.randn(5000, 16)
    before = model.weight.detach().clone()
    optimizer.step()
    found = seen(adapter)
    assert found["update_ratio.weight"] == pytest.approx(norm([model.weight.detach() - before]) / norm([before]), rel=0.05)
    assert sum(room.numel() for room in adapter._layers.kept._room.values()) <= 1 << 16


def test_a_layer_of_two_optimizers_is_told_when_both_have_stepped() -> None:
    model = network()
    matrices = torch.optim.SGD([p for p in model.parameters() if p.ndim == 2], lr=0.1)
    vectors = torch.optim.SGD([p for p in model.parameters() if p.ndim == 1], lr=0.1)
    adapter = TorchAdapter(model, {"matrices": matrices, "vectors": vectors})
    backward(model)
    matrices.step()
    assert seen(adapter) == {}
    found: list[dict[str, float]] = []
    for _ in range(3):
        backward(model)
        matrices.step()
        vectors.step()
        found.append(seen(adapter))
    assert found[:2] == [{}, {}], "the matrices were looked at in the first turn already; the next to be looked at is the fourth"
    assert found[2]["grad_norm.0"] == pytest.approx(norm([p.grad for p in model[0].parameters()]), rel=1e-5)


def test_a_generator_that_steps_now_and_then_is_waited_for() -> None:
    models = {"G": nn.Linear(2, 2), "D": nn.Linear(2, 2)}
    optimizers = {name: torch.optim.SGD(m.parameters(), lr=0.1) for name, m in models.items()}
    adapter = TorchAdapter(models, optimizers)
    found: set[str] = set()
    for step in range(5):
        for name in ["D", "G"] if step == 4 else ["D"]:
            models[name](torch.randn(3, 2)).sum().backward()
            optimizers[name].step()
        found |= seen(adapter, step).keys()
    assert {"grad_norm.G.weight", "grad_norm.D.weight", "update_ratio.G.bias"} <= found


def test_sparse_missing_and_complex_gradients() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 3, sparse=True)
            self.wave = nn.Parameter(torch.ones(2, dtype=torch.cfloat))
            self.idle = nn.Linear(2, 2)

    model = Odd()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    model.embed(torch.tensor([1, 4])).sum().backward()
    model.wave.grad = torch.tensor([3j, 4 + 0j])
    optimizer.step()
    found = seen(adapter)
    assert found["grad_norm.embed"] == pytest.approx(math.sqrt(6))
    assert found["grad_norm.wave"] == pytest.approx(5.0)
    assert found["update_ratio.wave"] == pytest.approx(0.5 / math.sqrt(2))
    assert "grad_norm.idle" not in found, "unknown is not 0"
    assert found["update_ratio.idle"] == 0.0, "but it did not move"


def test_weights_that_are_all_zero_have_no_ratio_yet() -> None:
    model = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    found = []
    for step in range(2):
        model.weight.grad = torch.ones(2, 2)
        optimizer.step()
        found.append("update_ratio.weight" in seen(adapter, step))
    assert found == [False, True]


def test_a_step_that_a_scaler_skips_is_not_the_one() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    adapter = TorchAdapter(model, optimizer, scaler=scaler)
    found = []
    for step in range(2):
        optimizer.zero_grad()
        loss = model(torch.randn(5, 6)).square().mean() * (math.inf if step == 0 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        sample = adapter.sample(step)
        found.append((told(sample.get("grad_norm.*")).get("grad_norm.0"), sample.get("loss_scale")))
    assert found[0] == (None, 512.0)
    assert found[1][0] == pytest.approx(norm([p.grad for p in model[0].parameters()]), rel=1e-5)
    assert found[1][1] is None, "looked at every ten turns"


@pytest.mark.parametrize("skipped", [False, True])
def test_a_step_of_which_only_the_device_knows_is_told_if_it_was_one(skipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_scale, "_skipped", lambda optimizer: None)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=True)
    adapter = TorchAdapter(model, optimizer)
    backward(model)
    optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(float(skipped))
    optimizer.step()
    found = seen(adapter)
    assert found.keys() == (set() if skipped else {"grad_norm.0", "grad_norm.2", "update_ratio.0", "update_ratio.2"})


def test_what_was_seen_before_a_restore_is_not_told_after_it() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    captured = adapter.capture(None)
    backward(model)
    optimizer.step()
    adapter.restore(captured)
    assert seen(adapter) == {}
    backward(model)
    optimizer.step()
    assert seen(adapter, 1).keys() >= {"grad_norm.0", "update_ratio.2"}


def test_what_is_unfrozen_or_added_later_gets_a_layer() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    found = []
    for step in range(4):
        if step == 1:
            model[0].requires_grad_(True)
            optimizer.add_param_group({"params": list(model[0].parameters())})
        backward(model)
        optimizer.step()
        found.append(sorted(seen(adapter, step)))
    assert found[0] == ["grad_norm.2", "update_ratio.2"]
    assert found[3] == ["grad_norm.0", "grad_norm.2", "update_ratio.0", "update_ratio.2"]


def test_a_model_that_is_all_frozen_at_first_is_seen_when_it_is_not() -> None:
    model = network().requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    adapter._layers._began = (-1e9, 0.0)  # a long run: every look can be afforded, however dear on a busy machine
    found: dict[str, float] = {}
    for step in range(2 * EVERY):
        if step == 3:
            model.requires_grad_(True)
        if step >= 3:
            backward(model)
            model[0].weight.grad.fill_(1.0)
        optimizer.step()
        found.update(seen(adapter, step))
    assert found.keys() == {"grad_norm.0", "grad_norm.2", "update_ratio.0", "update_ratio.2"}


def test_a_lazy_layer_is_seen_once_it_has_values() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    found = []
    for step in range(2):
        backward(model)
        optimizer.step()
        found.append(sorted(seen(adapter, step)))
    assert found[1] == ["grad_norm.0", "grad_norm.1", "update_ratio.0", "update_ratio.1"]


def test_a_failure_ends_the_looks_and_nothing_else_and_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    said: list[str] = []
    adapter.tell_to(said.append)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(torch, "_foreach_sub_", broken)
    for step in range(12):
        backward(model)
        optimizer.step()
        assert seen(adapter, step) == {}
    assert adapter.steps_done() == 12
    assert adapter._hooks[""].broken is None
    assert said == ["the layers cannot be measured (RuntimeError: no kernel for this); training goes on without their signals"]


def test_a_failure_before_anybody_listens_is_among_the_remarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_layer_meter, "layers", lambda models: 1 / 0)
    model = network()
    adapter = TorchAdapter(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert "the layers cannot be measured (ZeroDivisionError" in adapter.remarks()[0]


def test_what_was_let_go_of_is_taken_again_and_the_looks_go_on() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    meter = adapter._layers
    found = []
    for step in range(8):
        if step == 3:  # the look of the fourth step has begun, and that step raised
            look = adapter._hooks[""].look
            assert look is not None
            look.before()
            del look
            at = next(iter(meter.kept._room.values())).data_ptr()
            meter.let_go("cuda")
            assert meter.kept._room
            meter.let_go("cpu")
            tensors = [t for t in gc.get_objects() if type(t) is Tensor and t.layout is torch.strided and t.device.type == "cpu"]
            assert [t for t in tensors if t.untyped_storage().data_ptr() == at] == []
            meter.take_again()
            assert meter.kept._room
        backward(model)
        optimizer.step()
        if seen(adapter, step):
            found.append(step + 1)
    assert found == [1, 2, 5, 8]


def test_without_a_model_or_after_the_end_there_are_no_layers() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    p.grad = torch.ones(2)
    optimizer.step()
    assert "grad_norm.*" not in adapter.sample(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    adapter.rest()
    backward(model)
    optimizer.step()
    assert seen(adapter) == {}
    assert adapter.steps_done() == 1


def test_a_compiled_step_is_looked_at() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = TorchAdapter(model, optimizer)
    step = torch.compile(optimizer.step, backend="eager")
    backward(model)
    before = [p.detach().clone() for p in model[0].parameters()]
    step()
    found = seen(adapter)
    moved = norm([p.detach() - b for p, b in zip(model[0].parameters(), before, strict=True)])
    assert found["update_ratio.0"] == pytest.approx(moved / norm(before), rel=1e-4)


def test_a_scaler_that_was_not_given_is_found_and_told() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    idle = torch.amp.GradScaler("cpu", enabled=False)
    adapter = TorchAdapter(model, optimizer)
    assert "GradScaler" in adapter._loss_scale.look_for([model, idle, scaler])[0]
    backward(model)
    scaler.scale(torch.ones(()))
    optimizer.step()
    assert adapter.sample(0)["loss_scale"] == 64.0
    assert not any("GradScaler" in text for text in TorchAdapter(model, optimizer, scaler=scaler).remarks())
    assert TorchAdapter(model, optimizer)._loss_scale.look_for([scaler, torch.amp.GradScaler("cpu")]) == [], "which of them?"


def test_before_torch_2_3_what_is_not_covered_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    monkeypatch.delattr(torch.amp, "GradScaler")
    said = TorchAdapter(model, torch.optim.SGD(model[0].parameters(), lr=0.1)).remarks()
    assert any("no optimizer holds" in text for text in said)
