"""A daemon that dies is started again whatever the training does meanwhile."""

import gc
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest

from sitter_agent import launcher
from sitter_agent.launcher import Launcher
from sitter_wire.commands import Pause
from sitter_wire.places import RunDir
from tests.unit.agent.conftest import Quadratic, until

DAEMON = """
import os, pathlib
text = pathlib.Path("/proc/self/status").read_text()
blocked = next(line.split()[1] for line in text.splitlines() if line.startswith("SigBlk"))
with open({out!r}, "a") as file:
    file.write(f"{{blocked}} {{os.sched_getscheduler(0)}}\\n")
"""


@pytest.fixture
def mortal(begin, tmp_path, monkeypatch):
    """An agent whose daemon is a script that tells how it was started, and dies; not yet ``enabled``: it is started three times at most,
    and a busy machine would have used them up before the test has begun."""
    if not sys.platform.startswith("linux"):
        pytest.skip("looks at /proc")
    monkeypatch.setattr(launcher, "SILENT_S", 0.2)
    monkeypatch.setattr(launcher, "LOOK_S", 0.05)
    monkeypatch.setattr("sitter_agent.link.TEND_MS", 50)
    agent = begin()
    out = tmp_path / "started"
    agent._opened.launcher._command = [sys.executable, "-c", DAEMON.format(out=str(out))]
    return agent, out


def starts(out: Path) -> list[str]:
    return out.read_text().splitlines() if out.exists() else []


def test_a_daemon_that_dies_during_a_long_evaluation_is_started_again(mortal):
    agent, out = mortal
    turns = agent.steps(10)
    next(turns)  # and no safe point from here on
    agent._opened.launcher.enabled = True
    until(lambda: len(starts(out)) >= 2)
    # No signal blocked, and the usual policy: what the control thread has for itself is not the daemon's.
    assert set(starts(out)) == {"0000000000000000 0"}


def test_a_daemon_that_dies_during_a_held_pause_is_started_again(mortal, daemon):
    agent, out = mortal
    d = daemon(agent)
    model = Quadratic().known_to(agent)
    turns = agent.steps(10)
    next(turns)
    model.step(np.full(32, 0.25))
    d.order(Pause(hold=True))
    d.close()
    held_through = []

    def later() -> None:
        try:
            until(lambda: agent._core.progress.paused)
            agent._opened.launcher.enabled = True
            until(lambda: starts(out))
            held_through.append(agent._core.progress.paused)
        finally:
            Path(agent.run, "unpause").touch()

    helper = threading.Thread(target=later)
    helper.start()
    next(turns)
    helper.join()
    assert held_through == [True]


def refuses(thread):
    raise RuntimeError("can't start new thread")


def test_a_daemon_that_is_slow_to_start_is_not_waited_for_and_leaves_no_zombie(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "START_S", 0.2)
    earlier = set(psutil.Process().children())
    slow = f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)"
    said = Launcher(RunDir(tmp_path), lambda: None, print, command=[sys.executable, "-c", slow]).start()
    assert said.startswith("the daemon did not answer within")
    assert set(psutil.Process().children()) - earlier
    with warnings.catch_warnings(), monkeypatch.context() as no_thread:
        warnings.simplefilter("ignore", ResourceWarning)  # of this one nobody is left to wait
        no_thread.setattr("threading.Thread.start", refuses)
        again = Launcher(RunDir(tmp_path), lambda: None, print, command=[sys.executable, "-c", slow]).start()
        gc.collect()
    assert again == said, "also on a host that gives no other thread"
    (tmp_path / "go").touch()
    # The next process that is started takes what nobody waits for.
    until(lambda: subprocess.run(["true"], check=True) and not set(psutil.Process().children()) - earlier)
