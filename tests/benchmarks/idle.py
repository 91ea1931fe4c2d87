"""What watching and looking cost: CPU, memory and time to the first sign of life of daemon and screen, in one table.

    python tests/benchmarks/idle.py [--seconds 60]

Beside a run that logs once a second and beside one that makes some hundred steps a second: the daemon alone, and the daemon with the
screen of `sitter attach` open on it (the real app on a real pseudo-terminal, asking and drawing 4 times a second). Real agent, real daemon.
CPU time is the scheduler's, of all threads together, so other load on the machine counts only as far as it makes caches cold. Elsewhere:
nvtop 0.25 % and nvitop 0.9 % of a core for a display that decides nothing.

First sign of life: of the daemon, the time from its start until it answers a question (a second one, started on the run as it stands once
the first has left); of the screen, from its start until header and chart are on the terminal.
"""

import argparse
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from sitter.client import Client
from sitter.locks import holder
from sitter.supervise.daemon_process import start_daemon, stop_daemon
from sitter_wire.places import RunDir
from sitter_wire.queries import GetStatus

TRAINING = """
import sys, time, sitter_agent
pause = float(sys.argv[1])
agent = sitter_agent.start(name="idle", daemon=False)
print("ready", flush=True)
for step in agent.steps(10**9):
    time.sleep(pause)
    agent.log(loss=1.0 + 1 / (1 + step) + step % 7 / 50, grad_norm=1.0)
"""
PAUSES = {"1 Hz run": 1.0, "busy run": 0.01}
"""Seconds that a step of it takes."""
SIZES = ((200, 60), (80, 24))
FRAME_S = 0.25
SETTLE_S = 10.0
"""Imports, first commits, curves that are read for the first time: not what it costs for days."""
REACH_DAEMON_CPU, REACH_DAEMON_MIB, REACH_SCREEN_CPU, REACH_FIRST_PAINT_S = 0.1, 50.0, 10.0, 1.0


class Cost(NamedTuple):
    """Percent of a core, MiB, kB/s written to the terminal."""

    cpu: float
    rss: float
    output: float = 0.0


def screen(run: RunDir) -> None:
    """The app, as `sitter attach` runs it but for the frames a second; with all that the command itself imports."""
    import sitter.cli.attach
    import sitter.cli.main  # noqa: F401 — they count
    from sitter.tui.app import App

    class Quick(App):
        POLL_S = FRAME_S

    looking, acting = Client(run), Client(run)
    Quick(looking, acting=acting, run_name=run.name, since=time.time() - 3600).run(mouse=False)


class Screen:
    """The app in a process of its own on a terminal of this size; ``first_paint`` in seconds from its start, None where none came."""

    def __init__(self, run: RunDir, width: int, height: int) -> None:
        self._parent, tty = pty.openpty()
        fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--screen", str(run.path)], stdin=tty, stdout=tty, stderr=tty, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        )  # fmt: skip
        os.close(tty)
        self.process = psutil.Process(self._process.pid)
        self.first_paint: float | None = None
        seen = b""
        while self.first_paint is None and time.monotonic() - began < 120:
            seen += self._read(0.02)
            if b"idle" in seen and "┤".encode() in seen:  # header and chart
                self.first_paint = time.monotonic() - began

    def drain(self, seconds: float) -> int:
        """Read what it paints for so long, as a terminal would; bytes."""
        until, n = time.monotonic() + seconds, 0
        while (left := until - time.monotonic()) > 0:
            n += len(self._read(min(left, 0.2)))
        return n

    def close(self) -> None:
        """Leave it by its own key, else by force."""
        os.write(self._parent, b"q")
        self.drain(1.0)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._parent)

    def _read(self, timeout: float) -> bytes:
        ready, _, _ = select.select([self._parent], [], [], timeout)
        try:
            return os.read(self._parent, 65536) if ready else b""
        except OSError:  # the other side has ended
            return b""


@contextmanager
def training(pause: float) -> Iterator[tuple[RunDir, psutil.Process]]:
    """A run in a folder of its own, with an agent and without a daemon. Ends it, and whatever daemon watches then."""
    with tempfile.TemporaryDirectory(prefix="st-") as base:
        runtime = Path(base) / "r"
        runtime.mkdir(mode=0o700)
        os.environ.update(SITTER_RUNTIME_DIR=str(runtime), XDG_STATE_HOME=base)
        process = subprocess.Popen([sys.executable, "-c", TRAINING, str(pause)], cwd=base, stdout=subprocess.PIPE, text=True)
        run = RunDir(Path(base) / "sitter-runs/idle")
        try:
            while process.stdout is not None and process.stdout.readline() != "ready\n":
                assert process.poll() is None, "the training ended"
            yield run, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            _leave(run)


def _leave(run: RunDir) -> None:
    stop_daemon(run)
    deadline = time.monotonic() + 20
    while holder(run.daemon_lock) is not None and time.monotonic() < deadline:
        time.sleep(0.05)


def first_answer(run: RunDir) -> float:
    """Seconds from starting a daemon until it has answered."""
    client = Client(run)
    began = time.monotonic()
    start_daemon(run)
    client.ask(GetStatus(), timeout=20.0)
    took = time.monotonic() - began
    client.close()
    return took


def measure(seconds: float, processes: dict[str, psutil.Process], screen: Screen | None = None) -> tuple[dict[str, Cost], dict[str, float]]:
    """Their costs over so long; and of the daemon the share of each thread, in percent of a core."""
    before = {name: by_thread(p) for name, p in processes.items()}
    began = time.monotonic()
    sent = screen.drain(seconds) if screen else time.sleep(seconds) or 0
    took = time.monotonic() - began
    after = {name: by_thread(p) for name, p in processes.items()}
    share = {
        name: {thread: 100 * (spent - before[name].get(thread, 0.0)) / took for thread, spent in threads.items()}
        for name, threads in after.items()
    }
    costs = {
        name: Cost(sum(share[name].values()), p.memory_info().rss / 2**20, sent / took / 1024 if name == "screen" else 0.0)
        for name, p in processes.items()
    }
    return costs, share["daemon"]


def by_thread(process: psutil.Process) -> dict[str, float]:
    """Seconds on a CPU so far, in the scheduler's nanoseconds (the usual figure counts in ticks of 10 ms)."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return {f"{(t / 'comm').read_text().strip()} {t.name}": int((t / "schedstat").read_text().split()[0]) / 1e9 for t in tasks}


def row(what: str, cost: Cost, first: float | None = None) -> None:
    shown = "" if first is None else f"{first:.2f} s"
    painted = f"{cost.output:.1f} kB/s" if cost.output else ""
    print(f"{what:<46}{cost.cpu:>9.3f} %{cost.rss:>9.1f} MiB{shown:>12}{painted:>12}", flush=True)


def beside(name: str, pause: float, seconds: float) -> tuple[Cost, Cost, float | None]:
    """The rows of one run; the daemon's cost alone, the screen's at 200×60, and its first paint."""
    with training(pause) as (run, trained):
        first_answer(run)  # and with it the files of what it imports are in the page cache
        time.sleep(2)
        _leave(run)
        answered = first_answer(run)
        pid = holder(run.daemon_lock)
        assert pid is not None, "the daemon left"
        watching = {"daemon": psutil.Process(pid), "training": trained}
        time.sleep(SETTLE_S + 10.0)  # also past the time in which the client that asked counts as there
        alone, threads = measure(seconds, watching)
        row(f"daemon, {name}", alone["daemon"], answered)
        for thread, share in threads.items():
            print(f"    {thread:<42}{share:>9.3f} %")
        shown: list[tuple[Cost, float | None]] = []
        for width, height in SIZES:
            screen = Screen(run, width, height)
            try:
                screen.drain(SETTLE_S)
                both, _ = measure(seconds / 2, {**watching, "screen": screen.process}, screen)
            finally:
                screen.close()
            row(f"screen {width}×{height}, {name}", both["screen"], screen.first_paint)
            row("    the daemon meanwhile", both["daemon"])
            shown.append((both["screen"], screen.first_paint))
        row(f"the training itself, {name}", alone["training"])
    return alone["daemon"], *shown[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the daemon is watched; the screen half of it, twice")
    parser.add_argument("--screen", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.screen:
        screen(RunDir(given.screen))
        return
    print(f"{'':<46}{'CPU of a core':>11}{'RSS':>13}{'first sign':>12}{'output':>12}")
    found = {name: beside(name, pause, given.seconds) for name, pause in PAUSES.items()}
    daemon, _, _ = found["1 Hz run"]
    _, shown, paint = found["busy run"]
    print(
        f"of the budget: daemon at 1 Hz {daemon.cpu / REACH_DAEMON_CPU:.2f} × of {REACH_DAEMON_CPU} % CPU, "
        f"{daemon.rss / REACH_DAEMON_MIB:.2f} × of {REACH_DAEMON_MIB:.0f} MiB; screen at 200×60 beside a busy run "
        f"{shown.cpu / REACH_SCREEN_CPU:.2f} × of {REACH_SCREEN_CPU:.0f} % CPU, first paint "
        + (f"{paint / REACH_FIRST_PAINT_S:.2f} × of {REACH_FIRST_PAINT_S:.0f} s" if paint is not None else "never came")
    )


if __name__ == "__main__":
    main()
