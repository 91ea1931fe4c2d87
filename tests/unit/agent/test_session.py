"""Who may be the agent: one living process per run, whatever else was started or forked beside it."""

import os
import re
import signal
import subprocess
import sys

import pytest

from sitter_agent.session import claim
from sitter_wire.places import RunDir


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


CLAIM = """
import sys
from sitter_agent.session import claim
from sitter_wire.places import RunDir
session, why = claim(RunDir(sys.argv[1]))
print(session.id if session else why, flush=True)
sys.stdin.read()
"""


class Other:
    """Another process that tries to be the agent, and stays until it is told to go."""

    def __init__(self, run: RunDir) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.said = self.process.stdout.readline().strip()

    def end(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(60)
        self.process.stdin.close()
        self.process.stdout.close()


def test_a_session_is_named_after_its_start_and_no_other(run):
    one, why = claim(run)
    assert one is not None, why
    one.release()
    two, _ = claim(run)
    assert two is not None
    assert one.id != two.id
    for session in (one, two):
        assert re.fullmatch(r"[ -~]{1,32}", session.id)
        assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{8}", session.id)
    assert (one.mine, two.mine) == (False, True)
    two.release()


def test_a_second_process_is_refused_and_told_who_holds_the_run(run):
    session, _ = claim(run)
    other = Other(run)
    assert f"another process (pid {os.getpid()}) is the agent" in other.said
    other.end()
    session.release()
    other = Other(run)
    assert re.match(r"\d{8}T", other.said), "released, another may"
    mine, why = claim(run)
    assert mine is None
    assert f"pid {other.process.pid}" in why
    other.end(signal.SIGKILL)
    mine, _ = claim(run)
    assert mine is not None, "the dead hold nothing"
    mine.release()


def test_the_same_process_is_not_the_agent_twice(run):
    session, _ = claim(run)
    again, why = claim(RunDir(os.path.relpath(run.path)))
    assert again is None
    assert session.id in why
    assert session.mine
    session.release()


def test_a_forked_child_is_not_the_agent_and_does_not_take_the_lock_along(run):
    session, _ = claim(run)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        session.release()
        os.write(write, b"y" if session.mine else b"n")
        os.write(write, b"y" if claim(run)[0] else b"n")
        os.close(write)
        signal.pause()
    os.close(write)
    assert os.read(read, 1) + os.read(read, 1) == b"nn"
    other = Other(run)
    assert "is the agent" in other.said, "the parent still is"
    other.end()
    session.release()
    other = Other(run)
    assert re.match(r"\d{8}T", other.said), "a child that lives on holds nothing"
    other.end()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(read)


def test_branches_are_counted_through_all_sessions(run):
    session, _ = claim(run)
    assert [session.new_branch() for _ in range(3)] == [0, 1, 2]
    session.release()
    session, _ = claim(run)
    assert session.new_branch() == 3
    assert run.next_branch.read_text() == "4\n"
    assert sorted(p.name for p in run.path.iterdir()) == ["agent.lock", "next_branch"]
    session.release()


def test_a_branch_number_is_not_given_twice_when_the_file_cannot_be_kept(run, capsys):
    session, _ = claim(run)
    assert session.new_branch() == 0
    run.next_branch.unlink()
    run.next_branch.mkdir()
    assert [session.new_branch(), session.new_branch()] == [1, 2]
    assert "next_branch" in capsys.readouterr().err
    session.release()


def test_a_damaged_branch_counter_is_refused_with_what_to_do(run):
    run.next_branch.write_text("seven\n")
    session, why = claim(run)
    assert session is None
    assert "'seven'" in why
    assert "write a number" in why
    run.next_branch.write_text("7\n")
    session, _ = claim(run)
    assert session.new_branch() == 7
    session.release()


def test_a_run_directory_that_is_not_there_is_a_reason_and_no_exception(tmp_path):
    session, why = claim(RunDir(tmp_path / "gone"))
    assert session is None
    assert "cannot lock" in why
