"""The user's own command for every checkpoint: quoted, told, and ended where it hangs."""

import contextlib
import subprocess
import threading
from pathlib import Path

import pytest

from sitter.actions.after import LOG, MOST_LOG, After, Outcome, filled


def run(command: str, folder: Path, timeout_s: float = 120.0) -> Outcome:
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


def members(group: int) -> list[int]:
    """Of a process group; what is dead and was not waited for is none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp, *_ = stat.read_text().rpartition(")")[2].split()
            found += [int(stat.parent.name)] if int(pgrp) == group and state not in "ZX" else []
    return found


@pytest.mark.parametrize("hangs", ["sleep 600", "trap '' TERM; while :; do sleep 0.1; done"])
def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path, hangs, monkeypatch, until):
    monkeypatch.setattr("sitter.actions.after.KILL_S", 0.5)
    made, real = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **more: made.append(real(*words, **more)) or made[-1])
    outcome = run(hangs, tmp_path, 0.5)
    assert outcome.code is None
    (shell,) = made
    until(lambda: not members(shell.pid))


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
