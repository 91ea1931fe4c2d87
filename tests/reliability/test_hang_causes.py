"""A training that does not go on is told apart by cause, with the line it stands on, its stacks taken before anything is said.

All trainings stand at the same time, each with a daemon of its own: what is waited for is time, not a core. Each stops, dies or stands by
itself at one place of its script, so that nobody has to wait for it to get there. Defaults are shortened, so the figures here are those of
the tests; ``python tests/benchmarks/hangs.py`` prints the time to notice with the real ones.
"""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from sitter.cli.common import asking, settle
from sitter.errors import SitterError
from sitter.model import LogEntry, Status
from sitter.paths import look
from sitter.supervise.process import TrainingProcess
from sitter.supervise.witness import by_py_spy
from sitter_wire.places import RunDir
from sitter_wire.queries import GetLogbook, GetStatus

pytestmark = pytest.mark.xdist_group("hangs")
"""All on one worker: each would otherwise start all the trainings."""

RULES = """
[rules.stalled]
still_minutes = 0.07
start_still_minutes = 0.07
minutes = 0.2
hung_seconds = 4
stopped_seconds = 2
"""

HEAD = """
import ctypes, os, re, signal, sys, threading, time
import sitter_agent

agent = sitter_agent.start(name="r")
STAND = 20

"""

SLEEPS = """
def evaluate():
    time.sleep(1000)  # here

for step in agent.steps(10_000):
    agent.log(loss=1.0)
    time.sleep(0.01)
    if step == STAND:
        evaluate()
"""

HOLDS = """
def call_a_driver():
    ctypes.PyDLL(None).poll(None, 0, 1_000_000)  # here

for step in agent.steps(10_000):
    agent.log(loss=1.0)
    time.sleep(0.01)
    if step == STAND:
        call_a_driver()
"""

AT_ONCE = """
for step in agent.steps(10_000):
    agent.log(loss=1.0)
    ctypes.PyDLL(None).poll(None, 0, 1_000_000)  # here
"""

MATCHES = """
def parse():
    re.match(r"(a|aa)+$", "a" * 80 + "b")  # here

for step in agent.steps(10_000):
    agent.log(loss=1.0)
    time.sleep(0.01)
    if step == STAND:
        parse()
"""

STOPS = """
for step in agent.steps(1_000_000):
    agent.log(loss=1.0)
    time.sleep(0.01)
    if step == STAND:
        os.kill(os.getpid(), signal.SIGSTOP)  # here
"""

DIES = STOPS.replace("SIGSTOP", "SIGKILL")

STOPS_IN_START = """
import os, signal
import sitter_agent
from sitter_agent.launcher import Launcher

start = Launcher.start

def and_stop(launcher):
    why = start(launcher)
    os.kill(os.getpid(), signal.SIGSTOP)  # here
    return why

Launcher.start = and_stop  # then its daemon watches, and nobody is there yet to answer it
sitter_agent.start(name="r")
"""

STOPS_BEFORE_ITS_FIRST_STEP = """
import os, signal
import sitter_agent

agent = sitter_agent.start(name="r")
os.kill(os.getpid(), signal.SIGSTOP)  # here
"""

STOPS_IN_ITS_IMPORTS = """
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)  # here
"""

LOCKED = """
lock = threading.Lock()

def update():
    with lock:
        with lock:  # here
            pass

for step in agent.steps(10_000):
    agent.log(loss=1.0)
    time.sleep(0.01)
    if step == STAND:
        update()
"""

TYPES = """
for step in agent.steps(10_000):
    agent.log(loss=1.0)
    time.sleep(0.01)
    if step == STAND:
        sys.stdin.readline()  # here
"""

LOADS = """
import torch
from torch.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, i):
        if i == 40:
            time.sleep(1000)
        return torch.zeros(1)

if __name__ == "__main__":
    loader = DataLoader(Slow(), batch_size=2, num_workers=1)
    for step, batch in agent.loop(loader, total=10_000):  # here
        agent.log(loss=1.0)
        time.sleep(0.01)
"""

COMPUTES = """
def evaluate():
    until = time.monotonic() + 1000
    while time.monotonic() < until:
        sum(range(1000))  # here

for step in agent.steps(10_000):
    agent.log(loss=1.0)
    time.sleep(0.01)
    if step == STAND:
        evaluate()
"""

BODIES = {
    "sleeps": SLEEPS, "holds the lock": HOLDS, "before its first answer": AT_ONCE, "regex": MATCHES, "deadlock": LOCKED, "stdin": TYPES,
    "loader": LOADS, "busy": COMPUTES, "stopped": STOPS, "killed": DIES,
}  # fmt: skip
EARLY = {
    "stopped in start": STOPS_IN_START, "stopped before its first step": STOPS_BEFORE_ITS_FIRST_STEP,
    "stopped in its imports": STOPS_IN_ITS_IMPORTS,
}  # fmt: skip
"""Whole scripts, the last of them under ``sitter run``: of a process that has not yet said anything only a parent can tell."""


class Training:
    """One script with its run directory, and what its logbook says."""

    def __init__(self, place: Path, script: str, rules: str = "", under: tuple[str, ...] = ()) -> None:
        """``under``: the command that starts it."""
        place.mkdir()
        self.place, self.run = place, RunDir(place / "sitter-runs" / "r")
        self.source = textwrap.dedent(script).splitlines()
        (place / "train.py").write_text("\n".join(self.source), encoding="utf-8")
        (place / "sitter.toml").write_text(RULES + rules, encoding="utf-8")
        self.process = subprocess.Popen(
            [*under, sys.executable, "train.py"], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        )  # fmt: skip

    def logbook(self) -> list[LogEntry]:
        with contextlib.suppress(SitterError), asking(look(self.run)) as asked:
            settle(asked)
            found: list[LogEntry] = asked.ask(GetLogbook(), 30.0)
            return found
        return []  # there is no run yet

    def status(self) -> Status | None:
        with contextlib.suppress(SitterError), asking(look(self.run)) as asked:
            found: Status = asked.ask(GetStatus(), 30.0)
            return found
        return None

    @property
    def line(self) -> str:
        """Where it stands: the line marked so."""
        number = next(i for i, line in enumerate(self.source, 1) if line.endswith("# here"))
        return f"train.py:{number} in "

    def found(self, timeout: float = 100.0) -> LogEntry:
        """The rule's finding, as the logbook has it."""
        end, lines = time.monotonic() + timeout, []
        while time.monotonic() < end:
            lines = self.logbook()
            for line in lines:
                if line.kind == "finding" and line.rule == "stalled":
                    return line
            time.sleep(0.2)
        raise AssertionError(f"nothing was found within {timeout} s; {self.status()}; the logbook: {lines[-5:]}")

    def until(self, *states: str) -> None:
        """The state becomes one of these."""
        end = time.monotonic() + 60
        while ((status := self.status()) is None or status.state not in states) and time.monotonic() < end:
            time.sleep(0.1)
        assert status is not None
        assert status.state in states

    def report(self) -> str:
        """The newest stack report."""
        reports = [p for p in self.run.reports.glob("stacks-*-*.txt") if "T" not in p.name]
        return max(reports, key=lambda p: p.stat().st_mtime).read_text(encoding="utf-8")

    def end(self) -> None:
        child = TrainingProcess.find(self.run)
        for pid in {self.process.pid} | ({child.pid} if child is not None else set()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # with the loader's worker, which would sleep on
        self.process.communicate()


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """All of them, standing. Their daemons leave by themselves once their trainings are gone."""
    place = tmp_path_factory.mktemp("hangs")
    made = {}
    try:
        for name, body in BODIES.items():
            # torch is loaded before the clocks that are shortened here run: on a busy machine that alone is longer than they allow
            imports = "import torch\n" if "import torch" in body else ""
            made[name] = Training(place / name.replace(" ", "-"), imports + HEAD + body)
        for name, script in EARLY.items():
            under = (sys.executable, "-m", "sitter.cli.main", "run", "--name", "r", "--no-ui", "--") if name.endswith("imports") else ()
            made[name] = Training(place / name.replace(" ", "-"), script, under=under)
        yield made
    finally:
        for training in made.values():
            training.end()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        # First those that take a core each, for as long as they live:
        ("regex", "C code that computes keeps Python's interpreter lock (GIL)"),
        ("busy", "is slow: it is busy"),
        ("sleeps", "stands still: no CPU, no I/O"),
        ("deadlock", "stands still: no CPU, no I/O"),
        ("holds the lock", "C code that waits keeps Python's interpreter lock (GIL)"),
        ("before its first answer", "C code that waits keeps Python's interpreter lock (GIL)"),
        ("stdin", "waits for input: it waits for somebody to type something on stdin"),
        ("loader", "waits for input: the loader brings no batch, and its 1 worker process stands still"),
        ("stopped", "the process is stopped by a signal"),
        *((name, "the process is stopped by a signal") for name in EARLY),
    ],
)
def test_the_cause_and_the_line_are_said(trainings, name, says):
    training = trainings[name]
    found = training.found()
    assert says in found.detail
    process = TrainingProcess.find(training.run) or training.process
    if "stopped" not in name or by_py_spy(process.pid):  # who is stopped answers nobody: only a look from outside sees the line
        assert training.line in found.detail
        assert training.line in training.report()
    if "stopped" in name:
        training.until("hung", "stalled")  # whether its control thread was there yet, the daemon may not know
    else:
        training.until("hung" if name in ("holds the lock", "before its first answer", "regex") else "stalled")
    assert training.process.poll() is None, "a look from outside must end nothing"
    if name in ("regex", "busy"):
        trainings.pop(name).end()


def test_a_stop_by_a_signal_is_over_when_it_goes_on(trainings):
    training = trainings["stopped"]
    training.found()
    training.process.send_signal(signal.SIGCONT)
    training.until("running")
    assert training.status().incidents.open == 0


def test_gone_is_said_as_gone(trainings):
    training = trainings["killed"]
    training.until("crashed")
    assert not [line for line in training.logbook() if line.rule == "stalled"]


@pytest.mark.slow
def test_a_rule_may_end_it_so_that_it_is_started_again(tmp_path):
    training = Training(tmp_path / "r", HEAD + LOCKED, 'do = "restart"\n')
    try:
        training.found()
        training.process.wait(60)  # SIGTERM waits 20 s for a safe point that does not come
        training.until("crashed")
        told = training.logbook()
        assert any("stop --now" in t.detail and t.status == "applied" for t in told), told[-6:]
    finally:
        training.end()
