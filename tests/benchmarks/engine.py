"""What the rules cost: microseconds a step in all and by rule, points a second, and what a second without a step costs.

    python tests/benchmarks/engine.py [--steps 1000000]

The real engine with every rule of the catalogue, as it stands in the daemon. A step is one sample of loss, grad_norm, lr, step_time and
data_wait; every thousandth is followed by one of val_loss. CPU time; making the samples is left out. By rule: a tenth of the steps through
an engine with that rule alone, less an engine with none. The budget is a million steps in 20 s on one core, with some 30 rules.
"""

import argparse
import gc
import math
import random
import time
from collections.abc import Iterator

from sitter.model import GpuNow, HostNow
from sitter.rules.base import Rule
from sitter.rules.catalogue import RULES
from sitter.rules.engine import Engine
from sitter.rules.view import RunView, Sample

SLICE = 10_000
TICKS = 20_000
GIB = 1 << 30
REACH_US = 20.0
"""A step, with all rules there may be (DESIGN §7: O(1); a million steps replayed in 20 s)."""


def run(steps: int) -> Iterator[list[Sample]]:
    """A healthy run in slices: a falling loss with noise, a gradient norm with a long tail, a cosine."""
    rnd, at = random.Random(7), 0.0
    for begin in range(0, steps, SLICE):
        out = []
        for step in range(begin, min(begin + SLICE, steps)):
            took = 0.1 * (1 + 0.02 * abs(rnd.gauss(0, 1)))
            at += took
            out.append(Sample(step, 0, at, {
                "loss": (2 + 2 * math.exp(-step / 2e5)) * math.exp(0.05 * rnd.gauss(0, 1)),
                "grad_norm": math.exp(0.3 * rnd.gauss(0, 1)),
                "lr": 1.5e-4 * (1 + math.cos(math.pi * step / 1e6)),
                "step_time": took,
                "data_wait": 0.05 * took,
            }))  # fmt: skip
            if step % 1000 == 999:
                out.append(Sample(step, 0, at, {"val_loss": 2.1 + 2 * math.exp(-step / 2e5)}))
        yield out


def view() -> RunView:
    """A run on one GPU that is well."""
    return RunView(
        in_session=True, state="running", scales={"lr": 1.0}, started=0.0, safe_point_age=0.1, agent_age=0.1, steps_per_s=10.0,
        host=HostNow(mem_used=20 * GIB, mem_total=64 * GIB, train_rss=8 * GIB, disk_free=500 * GIB, disk_total=1000 * GIB),
        gpus=[GpuNow(index=0, uuid="GPU-0", name="H100", util=90.0, temp=60.0, mem_used=40 * GIB, mem_total=80 * GIB, used_by_run=True)],
    )  # fmt: skip


def observed(rules: list[Rule], steps: int) -> tuple[float, int]:
    """CPU seconds that the steps took, and how many points (values) they were."""
    engine, took, points = Engine(rules, view()), 0.0, 0
    for samples in run(steps):
        points += sum(len(s.values) for s in samples)
        began = time.process_time()
        for sample in samples:
            engine.observe(sample)
        took += time.process_time() - began
    assert not engine.broken, engine.broken
    return took, points


def ticked(rules: list[Rule]) -> float:
    """CPU seconds that so many seconds of a run took in which nothing happens."""
    engine = Engine(rules, view())
    for samples in run(1000):
        for sample in samples:
            engine.observe(sample)
    began = time.process_time()
    for second in range(TICKS):
        engine.tick(float(second))
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    gc.freeze()
    few = max(1, steps // 10)
    empty = observed([], few)[0] / few, ticked([]) / TICKS
    print(f"{'':<24}{'a step':>10}{'a second':>12}")
    print(f"{'the engine, no rule':<24}{1e6 * empty[0]:>7.2f} µs{1e6 * empty[1]:>9.2f} µs")
    for kind in RULES:
        step, second = observed([kind()], few)[0] / few - empty[0], ticked([kind()]) / TICKS - empty[1]
        print(f"{kind.name:<24}{1e6 * step:>7.2f} µs{1e6 * second:>9.2f} µs", flush=True)
    took, points = observed([kind() for kind in RULES], steps)
    second = ticked([kind() for kind in RULES]) / TICKS
    print(f"{f'all {len(RULES)} rules':<24}{1e6 * took / steps:>7.2f} µs{1e6 * second:>9.2f} µs")
    print(
        f"{steps:,} steps in {took:.1f} s, {points / took:,.0f} points/s; of the budget of {REACH_US:.0f} µs a step: "
        f"{1e6 * took / steps / REACH_US:.2f}"
    )


if __name__ == "__main__":
    main()
