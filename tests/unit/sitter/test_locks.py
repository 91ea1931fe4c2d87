"""Who holds a run: a lock must outlive every question about it."""

import os
import subprocess
import sys

from sitter.locks import holder, take


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
