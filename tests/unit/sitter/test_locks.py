"""Asking who holds a lock must not take it."""

import os
import subprocess
import sys

from sitter.locks import holder, take


def test_nobody_holds_a_file_that_is_not_there_or_not_locked(tmp_path):
    assert holder(tmp_path / "none") is None
    (tmp_path / "free").touch()
    assert holder(tmp_path / "free") is None


def test_another_process_is_named_is_not_disturbed_and_its_death_frees_it(tmp_path):
    path = tmp_path / "lock"
    code = f"import fcntl, sys; f = open({str(path)!r}, 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        for _ in range(3):
            assert holder(path) == other.pid
        assert take(path) is None
    finally:
        other.kill()
        other.communicate()
    assert holder(path) is None
    mine = take(path)
    assert mine is not None
    mine.close()
    assert os.path.exists(path)
