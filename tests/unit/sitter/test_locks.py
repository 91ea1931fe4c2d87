"""Who holds a run: a lock must outlive every question about it."""

import fcntl
import os
import struct
import subprocess
import sys
import threading

import pytest

from sitter import locks
from sitter.locks import holder, take, take_within
from sitter_agent.launcher import is_held


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


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="nothing here holds a lock without a pid")
def test_a_holder_that_has_no_pid_here_is_one_all_the_same(tmp_path):
    path = tmp_path / "agent.lock"
    assert not locks.is_held(path)
    with path.open("w") as file:
        assert not locks.is_held(path)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
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


READS = """
import pathlib, sys, time
from sitter.locks import take_within
while True:                                                  # a script that asks again and again
    lock = take_within(pathlib.Path(sys.argv[1]), 60.0, reads=True)
    print("reads", flush=True)
    time.sleep(0.05)
    lock.close()
"""


def test_who_comes_to_read_after_a_daemon_does_not_get_in_before_it(tmp_path):
    path = tmp_path / "daemon.lock"
    readers = [
        subprocess.Popen([sys.executable, "-c", READS, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    try:
        for reader in readers:
            for _ in range(3):
                assert reader.stdout.readline() == "reads\n"
        lock = take_within(path, 60.0)  # one or the other always reads: by chance it would come in once in hundreds of looks
        assert lock is not None
        assert seen_from_outside(path) == f"{os.getpid()} None"
        lock.close()
        assert readers[0].stdout.readline() == "reads\n", "it keeps nobody out any more"
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


def test_a_daemon_that_gives_up_waiting_keeps_nobody_out(tmp_path):
    path = tmp_path / "daemon.lock"
    reader = another(path, reads=True)
    try:
        assert take_within(path, 0.05) is None
    finally:
        reader.communicate("enough\n")
    assert seen_from_outside(path).startswith("None <")
