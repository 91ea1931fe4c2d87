"""Who holds a run: a lock must outlive every question about it."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sitter import locks
from sitter.locks import holder, take, take_within
from sitter_agent.launcher import is_held
from tests.unit.sitter.conftest import held_elsewhere


def seen_from_outside(path) -> str:
    code = f"from pathlib import Path; from sitter.locks import holder, take; p = Path({str(path)!r}); print(holder(p), take(p))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_asking_about_ones_own_lock_does_not_give_it_away(tmp_path):
    path = tmp_path / "daemon.lock"
    lock = take(path)
    assert holder(path) == os.getpid()
    assert take(path) is None
    assert seen_from_outside(path) == f"{os.getpid()} None"
    lock.close()
    assert holder(path) is None
    assert seen_from_outside(path).startswith("None <")


def test_a_holder_that_has_no_pid_here_is_one_all_the_same(tmp_path):
    path = tmp_path / "agent.lock"
    assert not locks.is_held(path)
    path.touch()
    assert not locks.is_held(path)
    with held_elsewhere(path):
        assert locks.is_held(path)
        assert holder(path) is None


def another(path, *, reads: bool) -> subprocess.Popen:
    """A process that has the lock until its stdin says something."""
    code = f"import sys; from pathlib import Path; from sitter.locks import take; lock = take(Path({str(path)!r}), reads={reads})"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print('has it', flush=True); sys.stdin.readline()"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "has it\n"
    return process


@pytest.mark.parametrize("reads", [False, True])
def test_who_only_reads_is_waited_for_and_seen_by_nobody(tmp_path, reads):
    path = tmp_path / "daemon.lock"
    reader = another(path, reads=True)
    try:
        assert holder(path) is None, "taken for a daemon, it would keep one from being started"
        assert not is_held(path)
        assert is_held(path, by_readers=True)
        assert take(path, reads=reads) is None
        leaves = threading.Timer(0.1, reader.communicate, ["enough\n"])
        leaves.start()
        lock = take_within(path, 60.0, reads=reads)
        leaves.join()
        assert lock is not None
        assert seen_from_outside(path) == (f"{None if reads else os.getpid()} None")
        lock.close()
    finally:
        reader.kill()
        reader.wait()


@pytest.mark.parametrize("reads", [False, True])
def test_a_daemon_is_waited_for_by_nobody(tmp_path, reads):
    path = tmp_path / "daemon.lock"
    daemon = another(path, reads=False)
    try:
        assert holder(path) == daemon.pid
        assert is_held(path)
        assert take_within(path, 1e9, reads=reads) is None
    finally:
        daemon.communicate("enough\n")


def test_who_comes_to_read_after_a_daemon_does_not_get_in_before_it(tmp_path):
    """One command after the other would keep it out for ever."""
    path = tmp_path / "daemon.lock"
    reader = another(path, reads=True)
    code = f"from pathlib import Path; from sitter.locks import take_within; l = take_within(Path({str(path)!r}), 1e9); print('has it')"
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while not is_next(path):
            assert time.monotonic() < end
            time.sleep(0.01)
        daemon.send_signal(signal.SIGSTOP)  # it is slower than whoever comes
        reader.communicate("enough\n")
        assert take(path, reads=True) is None
        daemon.send_signal(signal.SIGCONT)
        assert daemon.communicate(timeout=60) == ("has it\n", None)
        take(path, reads=True).close()
    finally:
        for process in (reader, daemon):
            process.kill()
            process.wait()


def is_next(path) -> bool:
    """Whether somebody waits for the whole file."""
    with path.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1)
        except OSError:
            return True
    return False


def test_a_daemon_that_gives_up_waiting_keeps_nobody_out(tmp_path):
    path = tmp_path / "daemon.lock"
    reader = another(path, reads=True)
    try:
        assert take_within(path, 0.05) is None
    finally:
        reader.communicate("enough\n")
    assert seen_from_outside(path).startswith("None <")
