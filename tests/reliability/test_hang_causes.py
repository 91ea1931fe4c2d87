"""A training that does not go on is told apart by cause, with the line it stands on, its stacks taken before anything is said.

All trainings stand at the same time, each with a daemon of its own: what is waited for is time, not a core. Defaults are shortened, so the
figures here are those of the tests; ``python tests/benchmarks/hangs.py`` prints the time to notice with the real ones.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from sitter.supervise.witness import by_py_spy

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

STEPS = """
for step in agent.steps(1_000_000):
    agent.log(loss=1.0)
    time.sleep(0.01)  # here
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
    "loader": LOADS, "busy": COMPUTES, "stopped": STEPS, "killed": STEPS,
}  # fmt: skip


class Training:
    """One script with its run directory, and what its logbook says."""

    def __init__(self, place: Path, body: str, rules: str = "") -> None:
        place.mkdir()
        self.place, self.run = place, place / "sitter-runs" / "r"
        self.source = textwrap.dedent(HEAD + body).splitlines()
        (place / "train.py").write_text("\n".join(self.source), encoding="utf-8")
        (place / "sitter.toml").write_text(RULES + rules, encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "train.py"], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        )  # fmt: skip

    def sitter(self, *words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "sitter.cli.main", words[0], "-r", str(self.run), *words[1:], "--json"], cwd=self.place,
            capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip

    @property
    def line(self) -> str:
        """Where it stands: the line marked so."""
        number = next(i for i, line in enumerate(self.source, 1) if line.endswith("# here"))
        return f"train.py:{number} in "

    def found(self, timeout: float = 60.0) -> dict:
        """The rule's finding, as the logbook has it."""
        end, lines = time.monotonic() + timeout, []
        while time.monotonic() < end:
            lines = [json.loads(line) for line in self.sitter("logbook").splitlines()]
            for line in lines:
                if line["kind"] == "finding" and line["rule"] == "stalled":
                    return line
            time.sleep(0.5)
        raise AssertionError(f"nothing was found within {timeout} s; the logbook: {lines[-5:]}")

    def until(self, state: str) -> None:
        """The state becomes this one within seconds."""
        end = time.monotonic() + 20
        while (found := self.status()["state"]) != state and time.monotonic() < end:
            time.sleep(0.3)
        assert found == state

    def status(self) -> dict:
        return json.loads(self.sitter("status"))

    def report(self) -> str:
        """The newest stack report."""
        reports = [p for p in (self.place / "sitter-runs" / "r" / "reports").glob("stacks-*-*.txt") if "T" not in p.name]
        return max(reports, key=lambda p: p.stat().st_mtime).read_text(encoding="utf-8")

    def has_steps(self) -> bool:
        try:
            return (self.status().get("step") or 0) >= 20
        except json.JSONDecodeError:
            return False

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # with the loader's worker, which would sleep on
        self.process.communicate()


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """All of them, standing. Their daemons leave by themselves once their trainings are gone."""
    place = tmp_path_factory.mktemp("hangs")
    made = {}
    try:
        for name, body in BODIES.items():
            made[name] = Training(place / name.replace(" ", "-"), body)
        for name, number in (("stopped", signal.SIGSTOP), ("killed", signal.SIGKILL)):
            end = time.monotonic() + 40
            while not made[name].has_steps() and time.monotonic() < end:
                time.sleep(0.2)
            made[name].process.send_signal(number)
        yield made
    finally:
        for training in made.values():
            training.end()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sleeps", "stands still: no CPU, no I/O"),
        ("deadlock", "stands still: no CPU, no I/O"),
        ("holds the lock", "C code that waits keeps Python's interpreter lock (GIL)"),
        ("before its first answer", "C code that waits keeps Python's interpreter lock (GIL)"),
        ("regex", "C code that computes keeps Python's interpreter lock (GIL)"),
        ("stdin", "waits for input: it waits for somebody to type something on stdin"),
        ("loader", "waits for input: the loader brings no batch, and its 1 worker process stands still"),
        ("busy", "is slow: it is busy"),
        ("stopped", "the process is stopped by a signal"),
    ],
)
def test_the_cause_and_the_line_are_said(trainings, name, says):
    training = trainings[name]
    found = training.found()
    assert says in found["detail"]
    if name != "stopped" or by_py_spy(training.process.pid):  # who is stopped answers nobody: only a look from outside sees the line
        assert training.line in found["detail"]
        assert training.line in training.report()
    training.until("hung" if name in ("holds the lock", "before its first answer", "regex", "stopped") else "stalled")
    assert training.process.poll() is None, "a look from outside must end nothing"


def test_a_stop_by_a_signal_is_over_when_it_goes_on(trainings):
    training = trainings["stopped"]
    training.found()
    training.process.send_signal(signal.SIGCONT)
    training.until("running")
    assert training.status()["incidents"]["open"] == 0


def test_gone_is_said_as_gone(trainings):
    training = trainings["killed"]
    training.until("crashed")
    assert not [line for line in training.sitter("logbook").splitlines() if json.loads(line)["rule"] == "stalled"]


@pytest.mark.slow
def test_a_rule_may_end_it_so_that_it_is_started_again(tmp_path):
    training = Training(tmp_path / "r", LOCKED, 'do = "restart"\n')
    try:
        training.found()
        training.process.wait(60)  # SIGTERM waits 20 s for a safe point that does not come
        training.until("crashed")
        told = [json.loads(line) for line in training.sitter("logbook").splitlines()]
        assert any(t["action"] and "stop --now" in t["action"] and t["status"] == "applied" for t in told), told[-6:]
    finally:
        training.end()
