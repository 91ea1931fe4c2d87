"""What is left of a training's process group when its leader has ended."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitter.supervise.group import clear_group, let_finish


@contextlib.contextmanager
def died(child: str, by: str) -> Iterator[tuple[int, int]]:
    """A leader of a group that has died ``by`` a statement of its own and was not reaped yet, and what it had started: Python that runs
    ``child``. (pid, pid)."""
    program = (
        f"import subprocess, sys, os; p = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE);"
        f" p.stdout.readline(); print(p.pid, flush=True); {by}"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, process_group=0) as leader:
        assert leader.stdout is not None
        left = int(leader.stdout.readline())
        os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
        yield leader.pid, left


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] in "ZX"
    except OSError:  # whoever has it by now has waited for it
        return True


def test_what_a_dead_training_left_behind_is_ended() -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    with died(stubborn, "os._exit(1)") as (group, left):
        clear_group(group, patience_s=0.2)
    assert is_dead(left)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A shell that has died, and what it had started: still busy until the file ``done`` is there."""
    busy = f"import pathlib, time; print('up', flush=True)\nwhile not pathlib.Path({str(tmp_path / 'done')!r}).exists(): time.sleep(0.01)"
    with died(busy, "os.kill(os.getpid(), 15)") as found:
        yield found
        (tmp_path / "done").touch()


def test_the_training_in_a_shell_that_was_told_to_end_is_waited_for(shell: tuple[int, int], tmp_path: Path) -> None:
    group, trains = shell
    (tmp_path / "agent.lock").write_text(json.dumps({"pid": trains, "session": "s"}))
    began = time.monotonic()
    let_finish(group, tmp_path, seconds=0.3)
    assert time.monotonic() - began >= 0.3, "it was busy all the time"
    (tmp_path / "done").touch()
    let_finish(group, tmp_path, seconds=600.0)
    assert is_dead(trains)


@pytest.mark.parametrize("told", ["nobody", "the leader", "a stranger"])
def test_nobody_else_is_waited_for(shell: tuple[int, int], tmp_path: Path, told: str) -> None:
    group, _ = shell
    pid = {"nobody": 0, "the leader": group, "a stranger": os.getpid()}[told]
    (tmp_path / "agent.lock").write_text(json.dumps({"pid": pid, "session": "s"}))
    let_finish(group, tmp_path, seconds=600.0)
