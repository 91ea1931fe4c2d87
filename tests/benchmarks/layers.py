"""What the signals by layer cost: the same training with and without them, in turns within one process.

    python tests/benchmarks/layers.py [--blocks 20] [--only mlp,transformer]

The torch trainings of ``training.py`` on one thread, agent recording, no snapshots (they would be in some blocks and not in others).
Blocks of 200 steps with the looks (two in each at most) and without alternate, which comes first being drawn. `ratio`: of CPU per step, a
block with looks to its neighbour without, the median of all pairs; ±: half of what the middle half of the ratios spans. `a look`: what a
step that is looked at and the one behind it, whose caches it may have emptied, cost more than the median step, in milliseconds and in
steps. `share`: that over the steps from look to look, to be compared with 0.3 %; `own`: the share that the meter believes it takes.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "agents")]

from training import TRAININGS  # noqa: E402 — beside this file

BLOCK = 200
WARM = 128
"""Steps before the first block: the first looks are behind it."""


def measure(name: str, blocks: int) -> dict[str, Any]:
    """Pairs of blocks of one training."""
    from sitter_agent.frameworks.torch_layer_meter import NEVER

    training = TRAININGS[name][0](0)
    agent = training.start(False)
    agent._core.snapshots_ready = True  # as if they had been prepared, without room for any
    meter = agent._core.adapter._layers
    rng, order = random.Random(0), []
    for _ in range(blocks):
        order += rng.sample((True, False), 2)
    clock, times, looked = time.thread_time, [], []
    off: tuple[float, ...] = ()
    last = clock()
    began, spent = last, meter._spent
    for step, batch in agent.loop(training.loader, total=WARM + 2 * blocks * BLOCK):
        place, within = divmod(step - WARM, BLOCK)
        if step >= WARM and within == 0:
            if not order[place]:
                meter.next, off = NEVER, off or (time.monotonic(), meter._waited())
            elif off:
                meter.next, began_at = meter._due(), meter._began
                back = time.monotonic(), meter._waited()
                meter._began = began_at[0] + back[0] - off[0], began_at[1] + back[1] - off[1]  # what was not spent meanwhile is no credit
                off = ()
        looked.append(bool(meter._looks))
        agent.log(**training.step(batch))
        now = clock()
        times.append(now - last)
        last = now
        if step == WARM:
            began, spent = now, meter._spent
    own = 2 * (meter._spent - spent) / (last - began)  # half of the blocks have looks
    layers = len(meter._names)
    agent.close()
    usual = statistics.median(times[WARM:])
    extra = [
        times[i] + times[i + 1] - 2 * statistics.median(times[i - 10 : i])
        for i in range(WARM + 10, len(times) - 1)
        if looked[i] and not any(looked[i - 10 : i])
    ]
    sums = [sum(times[WARM + b * BLOCK : WARM + (b + 1) * BLOCK]) for b in range(2 * blocks)]
    ratios = []
    for a in range(0, 2 * blocks, 2):
        with_looks, without = (a, a + 1) if order[a] else (a + 1, a)
        ratios.append(sums[with_looks] / sums[without])
    every = blocks * BLOCK / max(1, sum(looked[WARM:]))
    return {"usual": usual, "extra": extra, "ratios": ratios, "own": own, "layers": layers, "every": every}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=20, help="pairs of them")
    parser.add_argument("--only", default="mlp,transformer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="st-") as base:
        os.environ.update(SITTER_RUNTIME_DIR=f"{base}/r", XDG_STATE_HOME=base)
        os.chdir(base)
        print(f"{args.blocks} pairs of {BLOCK} steps, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        print(f"{'':14}{'layers':>7}{'every':>7}{'step ms':>9}{'ratio':>18}{'a look ms':>11}{'steps':>7}{'share':>9}{'own':>9}")
        for name in args.only.split(","):
            found = measure(name, args.blocks)
            low, _, high = statistics.quantiles(found["ratios"], n=4)
            look, usual = statistics.median(found["extra"]), found["usual"]
            print(
                f"{name:14}{found['layers']:7}{found['every']:7.0f}{1e3 * usual:9.3f}"
                f"{100 * (statistics.median(found['ratios']) - 1):+9.2f} ± {50 * (high - low):.2f} %"
                f"{1e3 * look:11.3f}{look / usual:7.2f}{100 * look / usual / found['every']:8.2f} %{100 * found['own']:8.2f} %",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
