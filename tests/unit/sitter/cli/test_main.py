"""What every command has in common."""

import os
import subprocess
import sys

import pytest

from sitter.cli.main import root
from sitter.errors import UsageError


def test_a_command_that_is_misspelt_is_told_the_nearest_right_one():
    with pytest.raises(UsageError, match=r"no such command 'statsu'; did you mean status\?"):
        root.main(["statsu"], prog_name="sitter", standalone_mode=False)


def test_a_reader_that_leaves_is_no_failure(tmp_path):
    """`sitter logbook | head` under `set -o pipefail`."""
    read, write = os.pipe()
    os.close(read)
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sitter.cli.main", "ls"], cwd=tmp_path, env=env, stdout=write, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
