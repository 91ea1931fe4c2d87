"""What a `log` of four scalars costs the training, beside torch's TensorBoard writer and wandb offline, in one run on one machine.

    python tests/benchmarks/log_cost.py [--seconds 4] [--rounds 3] [--only sitter,tensorboard]

Every figure comes from a process of its own, in turns, the median of the rounds. `tight`: calls back to back. `paced`: 1,000 calls a
second, and between two calls 4 MiB are written and the interpreter is kept busy, so that the caches are as cold as after a step of
training. CPU is of all processes (threads, wandb's service, sitter's daemon) per call, beyond what the empty loop costs. `slowdown`:
blocks of 1 ms steps with and without the call, in turns; `nothing` shows what the machine's noise alone makes of that.

`sitter` is the whole of it: `agent.log` and a safe point in every turn, a real daemon that stores and watches. The time is that of
`log`; CPU and slowdown are of both. `recorder` is `log` of the recorder alone, with no link and no daemon.
"""

import argparse
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
Call = Callable[[int], None]


class Logger(NamedTuple):
    """``log`` is timed; ``after`` is what else a turn of the loop needs; ``pids`` are processes that are not our children."""

    log: Call
    after: Call = lambda step: None
    close: Callable[[], None] = lambda: None
    pids: tuple[int, ...] = ()


def nothing(_: Path) -> Logger:
    """The call alone."""

    def log(step: int) -> None:
        pass

    return Logger(log)


def sitter(folder: Path) -> Logger:
    """The agent as a script uses it, watched by a real daemon."""
    import psutil

    import sitter_agent

    os.chdir(folder)
    os.environ["SITTER_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="sb")
    agent = sitter_agent.start(name="bench")
    (daemon,) = [p for p in psutil.process_iter(["cmdline"]) if f"{folder}/sitter-runs/bench" in (p.info["cmdline"] or [])]

    def log(step: int) -> None:
        agent.log(loss=1.0 / (step + 1), lr=3e-4, grad_norm=1.5, acc=0.5, step=step)

    def close() -> None:
        agent.close()
        time.sleep(1.0)  # it commits every 250 ms

    return Logger(log, lambda step: agent.safe_point(step), close, (daemon.pid,))


def recorder(folder: Path) -> Logger:
    """The file alone."""
    from sitter_agent.recorder import Recorder

    made = Recorder(folder / "recorder", "s")

    def log(step: int) -> None:
        made.log(step, 0, {"loss": 1.0 / (step + 1), "lr": 3e-4, "grad_norm": 1.5, "acc": 0.5})

    return Logger(log, close=made.close)


def tensorboard(folder: Path) -> Logger:
    """torch.utils.tensorboard.SummaryWriter with its defaults."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    add = writer.add_scalar

    def log(step: int) -> None:
        add("loss", 1.0 / (step + 1), step)
        add("lr", 3e-4, step)
        add("grad_norm", 1.5, step)
        add("acc", 0.5, step)

    return Logger(log, close=writer.close)


def wandb(folder: Path) -> Logger:
    """wandb, offline."""
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=str(folder), WANDB_CONSOLE="off")
    import wandb as module

    run = module.init(project="bench", dir=str(folder), mode="offline")

    def log(step: int) -> None:
        run.log({"loss": 1.0 / (step + 1), "lr": 3e-4, "grad_norm": 1.5, "acc": 0.5})

    return Logger(log, close=run.finish)


LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "nothing": nothing, "recorder": recorder, "sitter": sitter, "tensorboard": tensorboard, "wandb": wandb,
}  # fmt: skip


# ---------------------------------------------------------------------- in the measured process


def cpu_of_all(pids: tuple[int, ...]) -> float:
    """CPU seconds of this process, everything it started, and ``pids``."""
    import psutil

    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True), *map(psutil.Process, pids)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + (times.children_user + times.children_system if process == me else 0.0)
    return total


def quantiles(ns: list[int]) -> dict[str, float]:
    """µs."""
    ns = sorted(ns)
    return {name: ns[min(len(ns) - 1, int(len(ns) * q))] / 1e3 for name, q in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}


def tight(logger: Logger, seconds: float) -> list[int]:
    """Back to back, for so long or 100,000 calls."""
    log, after = logger.log, logger.after
    clock, out, end = time.perf_counter_ns, [], time.perf_counter() + seconds
    while len(out) < 100_000 and (len(out) % 100 or time.perf_counter() < end):
        step = len(out)
        t0 = clock()
        log(step)
        out.append(clock() - t0)
        after(step)
    return out


def paced(logger: Logger, seconds: float) -> list[int]:
    """1 kHz, caches cold."""
    log, after = logger.log, logger.after
    clock, out = time.perf_counter_ns, []
    one, two = bytearray(4 << 20), bytearray(4 << 20)
    at = clock()
    for step in range(int(seconds * 1000)):
        one[:] = two
        sum(range(2000))
        at += 1_000_000
        wait = (at - clock()) / 1e9
        if wait > 0:
            time.sleep(wait)
        else:
            at = clock()
        t0 = clock()
        log(step)
        out.append(clock() - t0)
        after(step)
    return out


def slowdown(logger: Logger, seconds: float) -> float:
    """Time of 20 steps of 1 ms with the call, over that without, in random turns. Their lower quartiles are compared: what other
    processes do to a machine only ever adds."""
    x = [float(i) for i in range(1000)]

    def work(n: int) -> None:
        for _ in range(n):
            math.fsum(x)

    t0 = time.perf_counter()
    work(2000)
    turns = max(1, round(2000 * 1e-3 / (time.perf_counter() - t0)))
    blocks: dict[bool, list[float]] = {True: [], False: []}
    step = 0
    for _ in range(int(seconds * 1000 / 40)):
        for with_log in random.sample((True, False), 2):
            t0 = time.perf_counter()
            for _ in range(20):
                work(turns)
                if with_log:
                    logger.log(step)
                    logger.after(step)
                    step += 1
            blocks[with_log].append(time.perf_counter() - t0)
    quarter = {with_log: statistics.quantiles(times, n=4)[0] for with_log, times in blocks.items()}
    return quarter[True] / quarter[False]


def measure(name: str, how: str, seconds: float) -> dict[str, float]:
    """One figure, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        logger = LOGGERS[name](Path(folder).resolve())
        for step in range(50):
            logger.log(step)
            logger.after(step)
        time.sleep(0.5)
        before = cpu_of_all(logger.pids)
        if how == "slowdown":
            found = {"ratio": slowdown(logger, seconds)}
            logger.close()
        else:
            ns = (tight if how == "tight" else paced)(logger, seconds)
            logger.close()
            found = {**quantiles(ns), "cpu": (cpu_of_all(logger.pids) - before) / len(ns) * 1e6}
        for pid in logger.pids:
            os.kill(pid, signal.SIGTERM)
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.01)
        return found


# ---------------------------------------------------------------------- the table


def asked(name: str, how: str, seconds: float) -> dict[str, float]:
    """One figure, from a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", name, how, str(seconds)], capture_output=True, text=True, check=False,
        cwd=tempfile.gettempdir(), env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'agents'}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name} {how} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(LOGGERS))
    parser.add_argument("--measure", nargs=3, metavar=("LOGGER", "HOW", "SECONDS"))
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure[0], args.measure[1], float(args.measure[2]))))
        return
    names = list(dict.fromkeys(["nothing", *args.only.split(",")]))
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for how in ("tight", "paced", "slowdown"):
            for name in names:
                rows.setdefault((name, how), []).append(asked(name, how, args.seconds))

    def median(name: str, how: str, what: str) -> float:
        return statistics.median(found[what] for found in rows[name, how])

    print(f"one log of 4 scalars, µs; median of {args.rounds} rounds of {args.seconds:g} s, {os.cpu_count()} cores", end="")
    print(f", load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':12} {'tight':>24} {'paced at 1 kHz, caches cold':>34} {'1 ms steps':>12}")
    print(f"{'':12} {'p50':>8}{'p99':>8}{'CPU':>8} {'p50':>10}{'p99':>8}{'p99.9':>8}{'CPU':>8} {'slowdown':>12}")
    for name in names:
        cells = [median(name, "tight", q) for q in ("p50", "p99")]
        cells.append(median(name, "tight", "cpu") - median("nothing", "tight", "cpu"))
        cells += [median(name, "paced", q) for q in ("p50", "p99", "p999")]
        cells.append(median(name, "paced", "cpu") - median("nothing", "paced", "cpu"))
        print(f"{name:12} " + "{:8.1f}{:8.1f}{:8.1f} {:10.1f}{:8.1f}{:8.1f}{:8.1f}".format(*cells), end="")
        print(f" {(median(name, 'slowdown', 'ratio') - 1) * 100:11.2f} %")
    if "sitter" in names:
        print()
        for name, reach in (("tensorboard", 12), ("wandb", 100)):
            if name in names:
                p50, p99 = (median(name, "paced", q) / median("sitter", "paced", q) for q in ("p50", "p99"))
                print(f"paced p50: {p50:.0f} × cheaper than {name} (to reach: {reach} ×); p99: {p99:.0f} ×")
        print(f"paced p99: {median('sitter', 'paced', 'p99'):.0f} µs (to reach: 150)")


if __name__ == "__main__":
    main()
