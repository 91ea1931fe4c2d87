"""The gradient norm is right for every kind of gradient, and its interval keeps its cost down."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from sitter_agent.frameworks.torch import TorchAdapter
from sitter_agent.frameworks.torch_grad import GradNormMeter, all_finite, total_norm


def test_it_is_the_norm_over_all_gradients() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(n) for n in (3, 50, 1)]
    assert float(total_norm(tensors)) == pytest.approx(float(torch.cat(tensors).norm()), rel=1e-6)


def test_half_types_do_not_overflow_and_mixed_types_add_up() -> None:
    tensors = [torch.full((10,), 3e4).half(), torch.full((10,), 3e4, dtype=torch.bfloat16), torch.full((10,), 3e4, dtype=torch.float64)]
    assert float(total_norm(tensors)) == pytest.approx(3e4 * math.sqrt(30), rel=1e-2)


def test_sparse_complex_empty_and_integer() -> None:
    sparse = torch.sparse_coo_tensor([[0, 2]], [3.0, 4.0], (4,), check_invariants=True)
    wave = torch.tensor([complex(0, 12)])
    assert float(total_norm([sparse, wave, torch.empty(0), torch.tensor([9])])) == pytest.approx(13.0)
    assert total_norm([torch.tensor([1])]) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.cfloat])
def test_one_bad_value_is_found_and_a_large_one_is_none(bad: float, dtype: torch.dtype) -> None:
    good = [torch.randn(100).to(dtype), torch.arange(5)]
    large = torch.tensor([torch.finfo(torch.float32).max * 0.9] * 4, dtype=torch.float32)
    assert all_finite([*good, large])
    worse = good[0].clone()
    worse[17] = bad
    assert not all_finite([*good, worse])


class Clock:
    """Time that stands until it is told to go."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def steps_with(meter: GradNormMeter, clock: Clock, n: int, step_time: float, cost: float, monkeypatch: Any) -> int:
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = torch.optim.SGD([p])

    def costly(self: Any, grads: Any) -> torch.Tensor:
        clock.now += cost
        return torch.tensor(1.0)

    monkeypatch.setattr(GradNormMeter, "_norm", costly)
    taken = 0
    for _ in range(n):
        clock.now += step_time
        meter.after_step(optimizer)
        taken += meter.take() is not None
    return taken


@pytest.mark.parametrize(("share", "interval"), [(0.004, 1), (0.02, 4), (0.1, 20), (5.0, 100)])
def test_it_costs_half_a_percent_at_most_and_is_taken_every_100_steps_at_least(
    share: float, interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    meter = GradNormMeter(clock)
    steps_with(meter, clock, 40, 1.0, share, monkeypatch)
    assert meter.interval == pytest.approx(interval, abs=1)
    before = clock.now
    taken = steps_with(meter, clock, 400, 1.0, share, monkeypatch)
    assert taken == pytest.approx(400 / interval, rel=0.2)
    if share < 0.5:
        assert clock.now - before - 400 <= 0.0056 * 400


def test_it_rests_where_the_script_logs_its_own() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    found = []
    for step in range(4):
        p.grad = torch.ones(2)
        optimizer.step()
        adapter.user_logs_grad_norm = step >= 1
        found.append("grad_norm" in adapter.sample(step))
    assert found == [True, True, False, False]


def test_a_norm_taken_before_a_restore_is_not_told_after_it() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapter = TorchAdapter(None, optimizer)
    captured = adapter.capture(None)
    p.grad = torch.full((2,), math.nan)
    optimizer.step()
    adapter.restore(captured)
    assert "grad_norm" not in adapter.sample(0)
