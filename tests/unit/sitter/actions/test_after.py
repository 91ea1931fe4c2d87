"""The user's own command for every checkpoint: quoted, told, and ended where it hangs."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from sitter.actions.after import LOG, MOST_LOG, After, Outcome, filled


def run(command: str, folder: Path, timeout_s: float = 20.0) -> Outcome:
    done, told = threading.Event(), list[Outcome]()
    after = After(command, folder, timeout_s, lambda outcome: (told.append(outcome), done.set()))
    after.start(folder / "a b'c.pt", step=12, branch=1, nbytes=5, sha256="ab")
    assert done.wait(60)
    return told[0]


def test_what_is_filled_in_is_quoted_and_the_shells_own_braces_are_left(tmp_path):
    assert filled("cp {path} ${path} {a,b} {}", {"path": "/x y"}) == "cp '/x y' ${path} {a,b} {}"
    outcome = run("printf '%s\\n' {path} {step} {branch} {bytes} {sha256} > out; echo; echo sent", tmp_path)
    assert (outcome.code, outcome.said, outcome.step, outcome.branch) == (0, "sent", 12, 1)
    assert (tmp_path / "out").read_text().splitlines() == [str(tmp_path / "a b'c.pt"), "12", "1", "5", "ab"]


def test_a_failure_is_told_with_its_last_line(tmp_path):
    outcome = run("echo no such bucket >&2; exit 3", tmp_path)
    assert (outcome.code, outcome.said) == (3, "no such bucket")


@pytest.mark.parametrize("hangs", ["sleep 600", "trap '' TERM; while :; do sleep 0.1; done"])
def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path, hangs, monkeypatch):
    monkeypatch.setattr("sitter.actions.after.KILL_S", 0.5)
    began = time.monotonic()
    outcome = run(f"echo $$ > pid; {hangs}", tmp_path, 0.5)
    assert outcome.code is None
    assert time.monotonic() - began < 60, "it would sleep for ten minutes"
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_it_says_in_a_month_does_not_fill_the_disk(tmp_path):
    log = tmp_path / LOG
    log.write_bytes(b"x" * (MOST_LOG + 1))
    assert run("echo sent", tmp_path).said == "sent"
    assert run("echo again", tmp_path).said == "again"
    assert log.read_text() == "sent\nagain\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [LOG, f"{LOG}.1"]


def test_what_cannot_be_started_is_told(tmp_path):
    outcome = run("echo \0", tmp_path)
    assert outcome.code is None
    assert outcome.said.startswith("it could not be started")
