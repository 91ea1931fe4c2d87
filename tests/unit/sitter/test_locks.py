"""Who holds a run: a lock must outlive every question about it."""

import os
import subprocess
import sys

from sitter.locks import holder, take, take_within


def seen_from_outside(path) -> str:
    code = f"from pathlib import Path; from sitter.locks import holder, take; p = Path({str(path)!r}); print(holder(p), take(p))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_asking_about_ones_own_lock_does_not_give_it_away(tmp_path):
    path = tmp_path / "daemon.lock"
    lock = take(path)
    assert holder(path) == os.getpid()
    assert take(path) is None
    assert seen_from_outside(path) == f"{os.getpid()} None"
    lock.close()
    assert holder(path) is None
    assert seen_from_outside(path).startswith("None <")


def test_a_daemon_waits_for_who_only_reads(tmp_path):
    path = tmp_path / "daemon.lock"
    reader = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from pathlib import Path; from sitter.locks import take\n"
         f"lock = take(Path({str(path)!r})); print('has it', flush=True); sys.stdin.readline()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert reader.stdout.readline() == "has it\n"
        assert take_within(path, 5.0, lambda pid: False) is None, "another daemon: at once"
        asked = []

        def gives_way(pid: int) -> bool:
            asked.append(pid)
            if len(asked) == 3:
                reader.stdin.write("enough\n")
                reader.stdin.flush()
            return True

        lock = take_within(path, 10.0, gives_way)
        assert lock is not None
        assert set(asked) == {reader.pid}
        lock.close()
    finally:
        reader.communicate()
