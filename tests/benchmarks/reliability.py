"""The promises under fire, measured: one table of all figures, and exit status 1 when a promise is broken.

    python tests/benchmarks/reliability.py [--quick] [--only NAME…] [--list] [--json FILE]

Without ``--quick`` these are the full counts (more than half an hour on two quiet cores). Real agents, real daemons, real faults; every
measurement works in processes and places of its own, and cleans up after itself where nothing is wrong.

To add a row: one file in ``tests/reliability/figures`` and one line in ``MEASUREMENTS``. The file offers

- ``measure(count, say) -> dict``: does the thing ``count`` times (kills, cases, steps: the file says what), tells ``say`` a sentence now
  and then, and returns what was seen as plain numbers, texts and lists, so that it can be written down as JSON;
- ``broken(figures) -> list[str]``: a sentence for everything in them that the promise does not allow, or that would mean that nothing was
  measured; empty where it is kept;
- ``table(figures) -> list[str]``: the figures as a person reads them, a line or a few, at most 110 characters each.

The test that belongs to it calls the same ``measure`` with the quick count in the default suite, and with the full one under ``-m slow``.
"""

import argparse
import importlib
import json
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script: the repository's own `tests` is what is meant


class Measurement(NamedTuple):
    """``module`` in ``tests.reliability.figures``; ``quick`` and ``full`` are the counts that its ``measure`` is called with."""

    name: str
    promise: str
    module: str
    quick: int
    full: int


MEASUREMENTS = (
    Measurement("records", "killed at any instruction, every log call that had returned is in the history, once", "kills", 30, 1000),
    Measurement("away", "a daemon away for an hour: all of it arrives, nothing of the past is acted on", "away", 2, 4),
    Measurement("cap", "beyond the recorder's cap the oldest go, counted, and status and logbook say so", "cap", 2, 2),
    Measurement("state", "a checkpoint's writer killed at any moment, or a full disk: the others stay whole", "state", 20, 300),
    Measurement("garbage", "nonsense on every socket: no crash, no growth, right messages answered", "garbage", 5000, 100_000),
    Measurement("files", "damaged segments, checkpoints, databases, settings: read, or refused", "garbage_files", 1500, 100_000),
    Measurement("untouchable", "daemon, disk, history, clock, sockets fail: the same steps, the same bits", "untouchable", 1, 2),
    Measurement("long", "millions of steps, a hundred clients, daemons replaced: memory and handles flat", "long", 75_000, 10_000_000),
)


def module_of(measurement: Measurement) -> ModuleType:
    """Imported only now: one that cannot be imported does not keep the others from being measured."""
    return importlib.import_module(f"tests.reliability.figures.{measurement.module}")


def run(measurement: Measurement, *, quick: bool) -> tuple[dict[str, Any], list[str]]:
    """Its figures, and what is broken; prints its part of the table."""
    count = measurement.quick if quick else measurement.full
    began = time.monotonic()
    try:
        module = module_of(measurement)
        figures = module.measure(count, lambda text: print(f"  … {text}", file=sys.stderr, flush=True))
        broken, lines = module.broken(figures), module.table(figures)
    except Exception as e:  # one that fails is a promise not shown, and the others are measured all the same
        figures, broken, lines = {}, [f"not measured: {type(e).__name__}: {e}"], []
    took = time.monotonic() - began
    print(f"{'BROKEN' if broken else 'kept':6}  {measurement.name:12} {measurement.promise}  ({took:.0f} s)")
    for line in lines:
        print(f"        {line}")
    for sentence in broken[:20]:
        print(f"        ! {sentence}")
    if len(broken) > 20:
        print(f"        ! and {len(broken) - 20} more")
    sys.stdout.flush()
    return {"name": measurement.name, "promise": measurement.promise, "seconds": took, "figures": figures, "broken": broken}, broken


def main() -> int:
    """Print the table; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the counts of the default suite")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of them only", choices=[m.name for m in MEASUREMENTS])
    parser.add_argument("--list", action="store_true", help="the names, and no more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, for another look")
    told = parser.parse_args()
    chosen = [m for m in MEASUREMENTS if told.only is None or m.name in told.only]
    if told.list:
        for m in chosen:
            print(f"{m.name:12} {m.promise}  ({m.quick}, in full {m.full})")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception, so that what was started is ended
    found = [run(m, quick=told.quick) for m in chosen]
    if told.json:
        told.json.write_text(json.dumps([figures for figures, _ in found], indent=1), encoding="utf-8")
    bad = sum(bool(broken) for _, broken in found)
    print(f"{len(found) - bad} of {len(found)} promises kept")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
