"""What is not resumed since it lives."""

import subprocess
import sys

import pytest

from sitter.locks import take
from sitter_wire import rundir

ALIVE = """
import sys
from sitter.cli.resume import _alive
from sitter.paths import look
from sitter_wire.places import RunDir
print(_alive(look(RunDir(sys.argv[1]))))
"""


def test_what_lives_in_another_container_is_not_started_once_more(tmp_path):
    """It has no pid here, and so is not found by it."""
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    lock = take(run.agent_lock)
    assert lock is not None
    with lock:
        words = ["unshare", "--pid", "--fork", sys.executable, "-c", ALIVE, str(run.path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.stderr.startswith("unshare"):
        pytest.skip(f"no other container can be made here: {done.stderr.strip()}")
    assert done.stdout == "is alive, on another machine or in another container: ask there\n", done.stderr
