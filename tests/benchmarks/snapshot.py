"""What a snapshot costs: captured in place into memory that is kept, against fresh clones as a script of one's own would make them.

    python tests/benchmarks/snapshot.py

Prints, for training states of 8, 32 and 128 MB (AdamW: weights and two moments), the median of each, their ratio, what a restore and a
finiteness check cost, and the share of a run's time at the rate the agent allows itself (1 %).
"""

import copy
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from sitter_agent.frameworks.torch import TorchAdapter

MEGABYTES = (8, 32, 128)
ROUNDS = 7
SHARE = 0.01


def training(megabytes: int) -> tuple[nn.Module, Any, TorchAdapter]:
    """A stack of layers whose weights and moments together fill ``megabytes``, after one step."""
    width, layers = 512, max(1, round(megabytes * 1e6 / 3 / (512 * 513 * 4)))
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    optimizer = torch.optim.AdamW(model.parameters())
    adapter = TorchAdapter(model, optimizer)
    step(model, optimizer)
    return model, optimizer, adapter


def step(model: nn.Module, optimizer: Any) -> None:
    """One training step on a small batch."""
    optimizer.zero_grad()
    model(torch.randn(32, 512)).square().mean().backward()
    optimizer.step()


def fresh_clones(model: nn.Module, optimizer: Any) -> Any:
    """What one writes by hand."""
    return copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())


def median_ms(what: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Median over the rounds, each after a training step, since that is what caches hold then."""
    took = []
    for _ in range(ROUNDS):
        before()
        began = time.perf_counter()
        kept = what()
        took.append(time.perf_counter() - began)
        del kept
    return statistics.median(took) * 1e3


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print(f"{'state':>8} {'in place':>10} {'clones':>10} {'ratio':>7} {'restore':>9} {'finite':>8} {'every':>8}   (ms; 1 thread)")
    for megabytes in MEGABYTES:
        model, optimizer, adapter = training(megabytes)

        def train(model: nn.Module = model, optimizer: Any = optimizer) -> None:
            step(model, optimizer)

        held = [adapter.capture(None)]

        def in_place(adapter: TorchAdapter = adapter, held: list[Any] = held) -> None:
            held[0] = adapter.capture(held[0])

        capture = median_ms(in_place, train)
        clones = median_ms(lambda m=model, o=optimizer: fresh_clones(m, o), train)  # type: ignore[misc]
        restore = median_ms(lambda a=adapter, h=held: a.restore(h[0]), train)  # type: ignore[misc]
        finite = median_ms(adapter.finite, train)
        print(
            f"{held[0].nbytes() / 1e6:6.0f}MB {capture:10.2f} {clones:10.2f} {clones / capture:6.1f}× {restore:9.2f} {finite:8.2f} "
            f"{capture / 1e3 / SHARE:6.1f} s"
        )
        adapter.close()
    print(f"every: how often a snapshot may be taken so that it stays within {SHARE:.0%} of the run's time")
    hooks()


def hooks() -> None:
    """What the hooks cost a step when no scale is on, and when one is."""
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def per_step() -> float:
        n = 2000
        best = min(median_ms(lambda: [optimizer.step() for _ in range(n)]) for _ in range(3))
        return best / n * 1e3

    bare = per_step()
    adapter = TorchAdapter(model, optimizer)
    adapter.user_logs_grad_norm = True
    adapter.sample(0)
    idle = per_step()
    next(k for k in adapter.knobs() if k.spec.name == "lr").change("scale", 0.5, group=None, hold=False)
    scaled = per_step()
    adapter.close()
    print(f"opt.step of a tiny SGD {bare:.2f} µs; with hooks, all scales 1: +{idle - bare:.2f} µs; a scale on: +{scaled - bare:.2f} µs")


if __name__ == "__main__":
    main()
