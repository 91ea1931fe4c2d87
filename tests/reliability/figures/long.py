"""A long life in a short time: millions of steps, a hundred clients that come and go, daemons that are started again.

One training with an agent logs far faster than any training does, through the real daemon. Meanwhile clients connect, ask what a screen
asks first, and leave again (every tenth is the screen itself, on a terminal of its own), and in the first quarter of the run the daemon is
replaced several times. Memory and file handles of agent and daemon are read throughout; what a first frame asks is timed at the start and
at the end.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from sitter.client import Client
from sitter.errors import SitterError
from sitter.locks import holder
from sitter.plot import Series, draw
from sitter.store.reader import Reader
from sitter.supervise.daemon_process import start_daemon
from sitter_wire.places import RunDir
from sitter_wire.queries import GetCurves, GetLogbook, GetSince, GetStatus
from tests.benchmarks.idle import Screen
from tests.reliability.figures.untouchable import until

RATE = 12_000
"""Steps a second, two records each. It could log ten times as fast; the daemon shows its rules some 35,000 records a second on one core,
and beyond that the recorder's cap would be what is measured."""
CLIENTS, REPLACED = 100, 5
SHORT_CLIENTS, SHORT_REPLACED = 10, 2
"""In a run of less than ``LONG`` steps, which shares its cores with other tests."""
SCREEN_EVERY = 10
COLUMNS = 400
"""Two to a character on a wide screen."""
SETTLED = 0.25
"""Of the steps: after it no daemon is replaced any more, so that the last one lives long."""
MAY_GROW_MB = {"agent": 8.0, "daemon": 16.0}
"""Between the second and the last quarter of its life: a page cache of SQLite's that fills, an arena of the allocator's."""
LONG = 1_000_000
MAY_GROW_HANDLES = {"agent": 8, "daemon": 3}
"""An agent whose daemon is behind has the segments mapped that are on their way, each with a handle, until they are committed; one that
gave none back would have hundreds."""
PATIENCE_S = 120.0
FIRST_FRAME_S = 1.0
"""What DESIGN §13 allows for the first paint; the imports of the screen take most of that."""
BARS = "▁▂▃▄▅▆▇█"

TRAINING = """
import pathlib, sys, time, sitter_agent
total, rate, enough = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path("enough")
agent = sitter_agent.start(name="idle", daemon=False)        # the screen of the idle benchmark looks for this name
print("ready", flush=True)
began = time.monotonic()
for step in agent.steps(1 << 60):
    if step >= total:                                       # it waits for whoever is late on a busy machine
        time.sleep(0.02)
        if enough.exists():
            break
    elif step % 100 == 0:
        time.sleep(max(0.0, began + step / rate - time.monotonic()))
    agent.log(loss=2.0 + 1.0 / (1 + step) + step % 97 / 500, grad_norm=1.0 + step % 13 / 50)
print(step, flush=True)
"""


class Watched:
    """Resident memory and file handles of one process, sampled; a daemon's are those of whichever watches."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.mb: list[float] = []
        self.handles: list[int] = []
        self.pids: list[int] = []

    def look(self, pid: int | None, began: float) -> None:
        try:
            process = psutil.Process(pid) if pid is not None else None
            if process is None:
                return
            mb, handles = process.memory_info().rss / 1e6, process.num_fds()
            if process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.Error:
            return
        self.at.append(time.monotonic() - began)
        self.mb.append(mb)
        self.handles.append(handles)
        self.pids.append(process.pid)

    def quarter(self, values: Sequence[float], which: int) -> float:
        """Median over one quarter of the last process's life, 0 to 3: what another one had says nothing of it."""
        began = self.pids.index(self.pids[-1])
        own = list(values)[began:]
        part = own[len(own) * which // 4 : max(len(own) * (which + 1) // 4, len(own) * which // 4 + 1)]
        return float(statistics.median(part))


def visit(run: RunDir) -> float:
    """A client that comes and goes. Seconds from its connecting until it has what a screen asks before it can paint."""
    began = time.perf_counter()
    client = Client(run)
    try:
        client.ask(GetStatus(), PATIENCE_S)
        client.ask(GetCurves(signals=["loss", "grad_norm"], columns=COLUMNS), PATIENCE_S)
        client.ask(GetLogbook(), PATIENCE_S)
        client.ask(GetSince(since=time.time() - 3600), PATIENCE_S)
        return time.perf_counter() - began
    finally:
        client.close()


def measure(count: int, say: Callable[[str], object]) -> dict[str, Any]:
    """``count`` steps. Where the environment names a directory in ``SITTER_FIGURES``, the picture is left there as ``long.svg``."""
    base = Path(tempfile.mkdtemp(prefix="st-"))
    (base / "r").mkdir(mode=0o700)
    kept = {name: os.environ.get(name) for name in ("SITTER_RUNTIME_DIR", "XDG_STATE_HOME", "SITTER", "SITTER_RUN")}
    os.environ |= {"SITTER_RUNTIME_DIR": str(base / "r"), "XDG_STATE_HOME": str(base / "state")}
    for name in ("SITTER", "SITTER_RUN"):
        os.environ.pop(name, None)
    training = subprocess.Popen([sys.executable, "-c", TRAINING, str(count), str(RATE)], cwd=base, stdout=subprocess.PIPE, text=True)
    run = RunDir(base / "sitter-runs" / "idle")
    try:
        assert training.stdout is not None
        training.stdout.readline()
        start_daemon(run)
        figures = live(run, training, count, say)
    finally:
        training.kill()
        training.communicate()
        pid = holder(run.daemon_lock)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(base, ignore_errors=True)
    if place := os.environ.get("SITTER_FIGURES"):
        picture(figures, Path(place) / "long.svg")
    return figures


def live(run: RunDir, training: "subprocess.Popen[str]", count: int, say: Callable[[str], object]) -> dict[str, Any]:
    """The training's whole life, and all that comes and goes meanwhile."""
    all_clients, all_replaced = (CLIENTS, REPLACED) if count >= LONG else (SHORT_CLIENTS, SHORT_REPLACED)
    began, agent, daemon = time.monotonic(), Watched(), Watched()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1 if count < LONG else 0.5):
            agent.look(training.pid, began)
            daemon.look(holder(run.daemon_lock), began)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    frames: list[tuple[int, float]] = []
    clients = screens = replaced = 0
    paints: list[float] = []
    try:
        until(lambda: stored(run) > 0, PATIENCE_S, "nothing is logged")
        frames.append((stored(run), visit(run)))
        while training.poll() is None and (clients < all_clients or replaced < all_replaced or stored(run) < count):
            share = stored(run) / count
            if replaced < all_replaced and share > SETTLED * (replaced + 1) / (all_replaced + 1):
                replaced += 1
                replace(run, hard=replaced % 2 == 1)
            if clients < all_clients and share > clients / all_clients:
                clients += 1
                if clients % SCREEN_EVERY == 0:
                    screen = Screen(run, 200, 60)
                    screens += 1
                    if screen.first_paint is not None:
                        paints.append(screen.first_paint)
                    screen.close()
                else:
                    frames.append((stored(run), visit(run)))
                mb = sum(daemon.mb[-1:])
                say(f"{stored(run):,} of {count:,} steps, {clients} clients, {replaced} daemons replaced, daemon {mb:.0f} MB")
            else:
                time.sleep(0.02)
        took = time.monotonic() - began
        over.set()
        watcher.join()
        (run.path.parents[1] / "enough").touch()
        assert training.stdout is not None
        steps = int(training.stdout.readline() or -1)
        until(lambda: stored(run) >= steps, PATIENCE_S, "what was logged is not all in the history")
        if holder(run.daemon_lock) is None:
            start_daemon(run)
        last = [visit(run) for _ in range(5)]
        screen = Screen(run, 200, 60)
        at_end = screen.first_paint
        screen.close()
    finally:
        over.set()
    early = [seconds for at, seconds in frames if at < count * 0.1]
    size = sum(p.stat().st_size for p in run.path.glob("history.db*"))
    return {
        "steps": steps, "seconds": took, "clients": clients, "screens": screens, "replaced": replaced, "stored": stored(run),
        "agent": told(agent), "daemon": told(daemon), "history_mb": size / 1e6, "bytes_a_value": size / (3 * steps),
        "frame_first": statistics.median(early or [frames[0][1]]), "frame_last": statistics.median(last),
        "frame_worst": max(seconds for _, seconds in frames), "frames": frames,
        "paint_first": paints[0] if paints else None, "paint_last": at_end,
    }  # fmt: skip


def told(watched: Watched) -> dict[str, Any]:
    """The samples, and how the second quarter compares with the last."""
    return {
        "at": watched.at, "mb": watched.mb, "handles": watched.handles,
        "mb_early": watched.quarter(watched.mb, 1), "mb_late": watched.quarter(watched.mb, 3),
        "handles_early": watched.quarter(watched.handles, 1), "handles_late": watched.quarter(watched.handles, 3),
    }  # fmt: skip


def stored(run: RunDir) -> int:
    """Steps that the history has."""
    if not run.history.exists():
        return 0
    reader = Reader(run.history)
    try:
        last = reader.tail(1)
        return last[-1].step + 1 if last else 0
    except SitterError:
        return 0
    finally:
        reader.close()


def replace(run: RunDir, *, hard: bool) -> None:
    """Another daemon in place of the one that watches: killed, or told to leave."""
    pid = holder(run.daemon_lock)
    if pid is not None:
        os.kill(pid, signal.SIGKILL if hard else signal.SIGTERM)
        until(lambda: holder(run.daemon_lock) != pid, PATIENCE_S, "the daemon did not leave")
    start_daemon(run)


def broken(figures: dict[str, Any]) -> list[str]:
    """What of the promise does not hold, in sentences."""
    out = []
    for who, may in MAY_GROW_MB.items():
        w = figures[who]
        if w["mb_late"] - w["mb_early"] > may:
            out.append(f"the {who} grew from {w['mb_early']:.0f} to {w['mb_late']:.0f} MB")
        if w["handles_late"] - w["handles_early"] > MAY_GROW_HANDLES[who]:
            out.append(f"the {who} had {w['handles_early']:.0f} file handles, and {w['handles_late']:.0f} in the end")
    if figures["stored"] < figures["steps"]:
        out.append(f"{figures['steps'] - figures['stored']} steps are not in the history")
    if figures["steps"] >= LONG and figures["frame_last"] > FIRST_FRAME_S / 2:
        out.append(f"what a first frame asks took {figures['frame_last']:.2f} s in the end")
    if figures["paint_last"] is None or not figures["clients"]:
        out.append("no client and no screen: nothing was measured of them")
    return out


def sparkline(values: Sequence[float], columns: int = 60) -> str:
    """Least to greatest over the whole length, from zero: what is flat looks flat."""
    if not values:
        return ""
    top = max(values) or 1.0
    edges = [len(values) * i // columns for i in range(columns + 1)]
    parts = [values[edges[i] : max(edges[i] + 1, edges[i + 1])] for i in range(columns)]
    return "".join(BARS[min(len(BARS) - 1, int(statistics.fmean(p) / top * (len(BARS) - 1) + 0.5))] for p in parts if p)


def table(figures: dict[str, Any]) -> list[str]:
    """Memory and handles over time, and how long a first look takes."""
    out = [
        f"{figures['steps']:,} steps in {figures['seconds']:.0f} s, {figures['clients']} clients ({figures['screens']} of them screens), "
        f"{figures['replaced']} daemons replaced",
    ]
    for who in ("agent", "daemon"):
        w = figures[who]
        out.append(f"{who:<7}{w['mb_early']:>5.0f} → {w['mb_late']:.0f} MB      {sparkline(w['mb'])}")
        out.append(f"{'':<7}{w['handles_early']:>5.0f} → {w['handles_late']:.0f} handles {sparkline(w['handles'])}")
    paints = [f"{seconds:.2f} s" if seconds is not None else "-" for seconds in (figures["paint_first"], figures["paint_last"])]
    out.append(
        f"first frame's questions {1000 * figures['frame_first']:.0f} → {1000 * figures['frame_last']:.0f} ms, "
        f"first paint {paints[0]} → {paints[1]}; history {figures['history_mb']:.0f} MB, {figures['bytes_a_value']:.1f} bytes a value"
    )
    return out


def picture(figures: dict[str, Any], path: Path) -> None:
    """Memory of both over the run's time."""
    curves = [Series(who, figures[who]["at"], figures[who]["mb"]) for who in ("agent", "daemon")]
    title = f"Resident memory over {figures['steps']:,} steps"
    said = f"{figures['clients']} clients came and went, {figures['replaced']} daemons were replaced"
    draw(curves, [], path, title, subtitle=said, x_label="seconds", y_label="MB")


if __name__ == "__main__":
    found = measure(int(sys.argv[1]), lambda text: print(text, file=sys.stderr))
    print("\n".join(table(found) + broken(found)))
