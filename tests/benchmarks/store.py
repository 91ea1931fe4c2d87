"""What the history costs: points stored a second and core, bytes a point, and a long curve drawn; against a row per point in SQLite.

    python tests/benchmarks/store.py [--steps 1000000] [--json FILE]

A point is one value of one signal. Four signals are logged together at every step, as a PyTorch loop would: loss and grad_norm (float32
made float64 by ``item()``, noisy), lr (a cosine in float64), step_time (float64, jitter of 2 %). Both stores get the same ``Point``
structs, keep the same values exactly, use WAL with synchronous=NORMAL, and are measured by the CPU time of the whole process, all threads;
making the points is left out. The other store is the plain one: a table (signal, step, time, value) without an index, ``executemany``, one
transaction a batch, drawn with GROUP BY.
"""

import argparse
import json
import math
import os
import random
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sitter.clock import SystemClock
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire.records import Point

NAMES = ("loss", "grad_norm", "lr", "step_time")
SLICE = 50_000
COLUMNS = 200
REACH = {"points/s": 3e6, "bytes/point": 6.0, "curve ms": 1.0}
"""DESIGN §13."""


def run(steps: int, first: int = 0, names: tuple[str, ...] = NAMES) -> Iterator[list[Point]]:
    """The run in slices."""
    rnd, single = random.Random(first), struct.Struct("f")
    at = time.monotonic_ns()

    def float32(value: float) -> float:
        return float(single.unpack(single.pack(value))[0])

    for begin in range(first, first + steps, SLICE):
        out = []
        for step in range(begin, min(begin + SLICE, first + steps)):
            took = 0.012 * (1 + 0.02 * abs(rnd.gauss(0, 1)))
            at += int(took * 1e9)
            made = {
                "loss": float32(2 + 2 * math.exp(-step / 2e5) + 0.08 * rnd.gauss(0, 1)),
                "grad_norm": float32(math.exp(0.3 * rnd.gauss(0, 1))),
                "lr": 1.5e-4 * (1 + math.cos(math.pi * step / 1e6)),
                "step_time": took,
            }
            out.append(Point(step + 1, step, 0, at, names, tuple(made[n] for n in names)))
        yield out


class Ours:
    """sitter.store."""

    name = "sitter"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = Writer(path, on_commit=lambda _: None, clock=SystemClock())
        self.writer.start()
        self.writer.session("s", time.time_ns(), time.monotonic_ns(), os.getpid())
        self.writer.flush()

    def put(self, points: list[Point]) -> None:
        while not self.writer.records("s", points):
            self.writer.flush()

    def commit(self) -> None:
        assert self.writer.flush(60), self.writer.trouble

    def close(self) -> None:
        self.writer.close()

    def curve(self) -> Callable[[], Any]:
        reader = Reader(self.path)
        return lambda: reader.curve("loss", columns=COLUMNS)


class Rows:
    """A row per point."""

    name = "row per point"

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("CREATE TABLE points (signal INTEGER, step INTEGER, time INTEGER, value REAL)")
        self.db.execute("BEGIN")

    def put(self, points: list[Point]) -> None:
        self.db.executemany(
            "INSERT INTO points VALUES (?, ?, ?, ?)", ((i, p.step, p.time // 1000, v) for p in points for i, v in enumerate(p.values))
        )

    def commit(self) -> None:
        self.db.execute("COMMIT")
        self.db.execute("BEGIN")

    def close(self) -> None:
        self.db.execute("COMMIT")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def curve(self) -> Callable[[], Any]:
        (last,) = self.db.execute("SELECT max(step) FROM points WHERE signal = 0").fetchone()
        sql = "SELECT step * ? / ?, min(value), max(value), avg(value) FROM points WHERE signal = 0 GROUP BY 1"
        return lambda: self.db.execute(sql, (COLUMNS, last + 1)).fetchall()


def stored(store: Ours | Rows, steps: int, batch: int, names: tuple[str, ...] = NAMES, first: int = 0) -> float:
    """CPU seconds for ``steps`` steps in commits of ``batch``."""
    spent = 0.0
    for points in run(steps, first, names):
        began = time.process_time()
        for at in range(0, len(points), batch):
            store.put(points[at : at + batch])
            store.commit()
        spent += time.process_time() - began
    return spent


def drawn(curve: Callable[[], Any], times: int) -> float:
    """Median CPU milliseconds."""
    curve()
    out = []
    for _ in range(times):
        began = time.process_time()
        curve()
        out.append(time.process_time() - began)
    return 1000 * statistics.median(out)


RSS = """
import sys, time
from pathlib import Path
def rss(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1024
import msgspec, logging, threading, zlib, sqlite3
before = rss()
from sitter.clock import SystemClock
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire.queries import GetCurves
w = Writer(Path(sys.argv[1]), on_commit=lambda _: None, clock=SystemClock()); w.start()
for i in range(600): w.host(time.time() + i, {f"gpu0.{j}": float(i) for j in range(20)})
w.flush()
r = Reader(Path(sys.argv[1]))
r.curves(GetCurves(signals=["loss", "grad_norm", "lr", "gpu0.1"], columns=200)); r.tail(5000)
print(before, rss(), "numpy" in sys.modules)
w.close()
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    steps, found = options.steps, {}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        for kind in (Ours, Rows):
            got = found[kind.name] = {}
            store = kind(place / f"{kind.name}.db")
            got["points/s, bulk (10,000 steps a commit)"] = len(NAMES) * steps / stored(store, steps, 10_000)
            store.close()
            got["bytes/point, 4 signals together"] = (place / f"{kind.name}.db").stat().st_size / steps / len(NAMES)
            got[f"curve of {steps:,} points in {COLUMNS} columns, CPU ms"] = drawn(store.curve(), 50 if kind is Ours else 3)
            store = kind(place / f"{kind.name}-live.db")
            got["points/s, as they arrive (250 steps a commit)"] = len(NAMES) * 100_000 / stored(store, 100_000, 250)
            got["µs a commit of 1 step (a slow run)"] = 1e6 * stored(store, 4000, 1, first=100_000) / 4000
            store.close()
            store = kind(place / f"{kind.name}-single.db")
            stored(store, 200_000, 10_000, ("loss",))
            store.close()
            got["bytes/point, loss alone"] = (place / f"{kind.name}-single.db").stat().st_size / 200_000
        done = subprocess.run([sys.executable, "-c", RSS, str(place / "sitter.db")], capture_output=True, text=True, check=True)
    ours, rows = found[Ours.name], found[Rows.name]
    print(f"{'':52}{'sitter':>14}{'row per point':>16}{'ratio':>10}")
    for what in ours:
        a, b = ours[what], rows[what]
        better = a / b if "points/s" in what else b / a
        shape = "{:>14,.0f}{:>16,.0f}" if a > 1000 else "{:>14.2f}{:>16.2f}"
        print(f"{what:52}{shape.format(a, b)}{better:>9.1f}×")
    before, after, numpy = done.stdout.split()
    print(f"\nmemory of writer and reader in one process: {float(after) - float(before):.1f} MiB above {float(before):.1f}")
    print(f"numpy imported: {numpy}")
    keys = list(ours)
    for name, key, at_least in (("points/s", keys[0], True), ("bytes/point", keys[1], False), ("curve ms", keys[2], False)):
        value, reach = ours[key], REACH[name]
        print(f"{name:12} reached {value:,.2f}, to reach {reach:,.2f}: {'yes' if (value >= reach) == at_least else 'NO'}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
