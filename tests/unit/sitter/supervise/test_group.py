"""What is left of a training's process group when its leader has ended."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sitter.supervise.group import clear_group, let_finish


def test_what_a_dead_training_left_behind_is_ended(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    program = (
        f"import subprocess, sys, os; p = subprocess.Popen([sys.executable, '-c', {stubborn!r}], stdout=subprocess.PIPE);"
        " p.stdout.readline(); print(p.pid, flush=True); os._exit(1)"
    )
    leader = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, process_group=0)
    assert leader.stdout is not None
    left = int(leader.stdout.readline())
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    clear_group(leader.pid, patience_s=0.2)
    leader.wait()
    leader.stdout.close()
    state = Path(f"/proc/{left}/stat")
    assert not state.exists() or state.read_text().split()[2] in "ZX"


@pytest.fixture
def shell(tmp_path: Path):
    """A shell that has died, and what it had started: still busy until the file ``done`` is there."""
    busy = f"import pathlib, time; print('up', flush=True)\nwhile not pathlib.Path({str(tmp_path / 'done')!r}).exists(): time.sleep(0.01)"
    program = (
        f"import subprocess, sys, os; p = subprocess.Popen([sys.executable, '-c', {busy!r}], stdout=subprocess.PIPE);"
        " p.stdout.readline(); print(p.pid, flush=True); os.kill(os.getpid(), 15)"
    )
    leader = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, process_group=0)
    assert leader.stdout is not None
    trains = int(leader.stdout.readline())
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    yield leader.pid, trains
    (tmp_path / "done").touch()
    leader.wait()
    leader.stdout.close()


def test_the_training_in_a_shell_that_was_told_to_end_is_waited_for(shell: tuple[int, int], tmp_path: Path) -> None:
    group, trains = shell
    (tmp_path / "agent.lock").write_text(json.dumps({"pid": trains, "session": "s"}))
    began = time.monotonic()
    let_finish(group, tmp_path, seconds=0.3)
    assert time.monotonic() - began >= 0.3, "it was busy all the time"
    (tmp_path / "done").touch()
    let_finish(group, tmp_path, seconds=600.0)
    state = Path(f"/proc/{trains}/stat")
    assert not state.exists() or state.read_text().split()[2] in "ZX"


@pytest.mark.parametrize("told", ["nobody", "the leader", "a stranger"])
def test_nobody_else_is_waited_for(shell: tuple[int, int], tmp_path: Path, told: str) -> None:
    group, _ = shell
    pid = {"nobody": 0, "the leader": group, "a stranger": os.getpid()}[told]
    (tmp_path / "agent.lock").write_text(json.dumps({"pid": pid, "session": "s"}))
    let_finish(group, tmp_path, seconds=600.0)
