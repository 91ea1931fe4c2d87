"""A training command that is not there, cannot be executed, or ends at once: one sentence, and nothing is left running."""

import sys
import time
from pathlib import Path

import pytest

from sitter.locks import holder


def test_a_command_that_is_not_there_leaves_no_run_behind(sitter, tmp_path):
    (tmp_path / "plain.txt").write_text("hello")
    for command, told in {
        "trian.sh": "in no directory of PATH",
        "./trian.sh": "no such file",
        "./plain.txt": "not executable",
        "./": "is a directory",
    }.items():
        assert told in sitter.refused("run", "--no-ui", "--", command)
    assert not (tmp_path / "sitter-runs").exists()
    assert "no run found" in sitter.refused("status")


@pytest.mark.parametrize(("first_line", "told"), [("#!/no/such/interpreter\n", "interpreter"), ("", "not a program")])
def test_a_script_without_its_interpreter_is_told(sitter, tmp_path, first_line, told):
    path = tmp_path / "train.sh"
    path.write_text(first_line + "echo hello\n")
    path.chmod(0o755)
    said = sitter.refused("run", "--name", "x", "--", "./train.sh")
    assert told in said
    assert sitter.status()["state"] == "crashed"
    assert no_daemon(tmp_path / "sitter-runs" / "x")


def test_a_name_that_is_taken_is_told_with_the_one_it_got(sitter, script):
    words = ("run", "--no-ui", "--name", "x", "--", sys.executable, str(script("print('so far')\nraise SystemExit(7)\n")))
    assert "already" not in sitter(*words).stderr
    assert "sitter: there is a run x already: this one is x-2\n" in sitter(*words).stderr


@pytest.mark.usefixtures("patient")
def test_a_training_that_ends_at_once_is_told_with_its_last_words(sitter, script, tmp_path):
    path = script("import json\nprint('reading')\njson.loads('{')\n")
    said = sitter.refused("run", "--name", "x", "--", sys.executable, str(path))
    run = tmp_path / "sitter-runs" / "x"
    assert "ended at once" in said
    assert "JSONDecodeError" in said
    assert str(run / "train.log") in said
    log = (run / "train.log").read_text()
    assert log.startswith("reading\n")
    assert "Traceback" in log
    status = sitter.status()
    assert status["state"] == "crashed"
    assert status["verdict"] == "DEAD"
    assert status["exit"]["code"] == 1
    assert "JSONDecodeError" in status["exit"]["error"]
    assert status["daemon"] is None
    assert no_daemon(run)


@pytest.mark.usefixtures("patient")
def test_without_the_screen_a_training_that_ends_at_once_gives_its_own_exit_code_and_output(sitter, script):
    done = sitter("run", "--no-ui", "--", sys.executable, str(script("print('so far')\nraise SystemExit(7)\n")))
    assert done.returncode == 7
    assert done.stdout == "so far\n"
    assert "exit code 7" in done.stderr
    done = sitter("run", "--no-ui", "--", sys.executable, str(script("import os\nos.kill(os.getpid(), 9)\n")))
    assert done.returncode == 128 + 9
    assert "signal 9" in done.stderr


def no_daemon(run: Path) -> bool:
    """Whether the daemon leaves (it commits first)."""
    end = time.monotonic() + 60
    while holder(run / "daemon.lock") is not None:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
