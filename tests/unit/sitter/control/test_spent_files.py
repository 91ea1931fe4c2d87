"""What a daemon that has left deletes of the recorder's files: what its history holds, and nothing else."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sitter.control.spent_files import delete_spent
from sitter.ingest import files
from sitter.store.reader import Reader
from sitter_agent.recorder import Recorder
from sitter_wire.records import DROPPED
from tests.unit.sitter.control.conftest import opened

STEPS = 2000
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write('{"pid": 1, "session": "%s"}' % sys.argv[2])
file.flush()
print(flush=True)
sys.stdin.read()
"""


def record(run, session: str, branch: int = 0, start: int = 0) -> None:
    recorder = Recorder(run.recorder, session, segment_bytes=16 * 1024)
    for step in range(start, start + STEPS):
        recorder.log(step, branch, {"loss": float(step)})
    recorder.close()


def take_in(run) -> None:
    """A daemon's life, as far as the files are concerned."""
    with opened(run) as core:
        assert core.read_files()


def losses(run) -> int:
    reader = Reader(run.history)
    try:
        return sum(len(rows.columns[group.names.index("loss")]) for group in reader.groups() for rows in reader.rows(group))
    finally:
        reader.close()


def test_what_the_history_holds_goes_and_stays_in_the_history(run):
    record(run, "a")
    record(run, "b", branch=1)
    take_in(run)
    count = sum(len(files.segments(folder)) for folder in files.sessions(run.recorder))
    assert count > 4
    assert delete_spent(run) == count
    assert list(run.recorder.iterdir()) == []
    take_in(run)
    assert losses(run) == 2 * STEPS
    assert not any("gap" in entry.status for entry in entries(run))


def entries(run):
    reader = Reader(run.history)
    try:
        return list(reader.logbook())
    finally:
        reader.close()


def test_a_session_that_the_history_does_not_hold_to_its_end_stays_whole(run):
    record(run, "a")
    last = files.segments(run.recorder / "a")[-1]
    kept, hidden = last.read_bytes(), last.with_suffix(".hidden")
    last.rename(hidden)
    take_in(run)
    hidden.rename(last)
    before = files.segments(run.recorder / "a")
    assert delete_spent(run) == 0
    assert files.segments(run.recorder / "a") == before
    assert last.read_bytes() == kept
    take_in(run)
    assert losses(run) == STEPS
    assert delete_spent(run) == len(before)


def test_a_session_the_history_has_never_heard_of_stays(run):
    record(run, "a")
    take_in(run)
    record(run, "b", branch=1)
    delete_spent(run)
    assert [folder.name for folder in files.sessions(run.recorder)] == ["b"]


def killed_before_its_first_record(run) -> Path:
    recorder = Recorder(run.recorder, "b", segment_bytes=16 * 1024)
    recorder.close()
    folder = run.recorder / "b"
    assert files.segments(folder)
    (folder / "00009999.rec").write_bytes(bytes(4096))  # made for what was to come
    return folder


def test_a_session_that_was_killed_before_its_first_record_goes(run):
    record(run, "a")
    folder = killed_before_its_first_record(run)
    take_in(run)
    stacks = run.reports / "stacks-b.txt"
    stacks.parent.mkdir(exist_ok=True)
    stacks.touch()
    assert "b" not in sequences(run)
    delete_spent(run)
    assert not folder.exists()
    assert not stacks.exists()


def test_where_one_of_them_cannot_be_read_it_stays(run, monkeypatch):
    record(run, "a")
    folder = killed_before_its_first_record(run)
    take_in(run)
    with monkeypatch.context() as failing:
        failing.setattr(Path, "read_bytes", fails)
        delete_spent(run)
    assert len(files.segments(folder)) == 2
    (folder / "00009998.rec").write_bytes(b"no segment at all")
    delete_spent(run)
    assert len(files.segments(folder)) == 3


def sequences(run):
    reader = Reader(run.history)
    try:
        return reader.sequences()
    finally:
        reader.close()


@pytest.mark.parametrize("damage", [b"no segment at all", b"\xff" * 64])
def test_a_segment_that_cannot_be_read_keeps_its_session(run, damage):
    record(run, "a")
    first = files.segments(run.recorder / "a")[0]
    first.write_bytes(damage)
    take_in(run)
    before = files.segments(run.recorder / "a")
    assert delete_spent(run) == 0
    assert files.segments(run.recorder / "a") == before


def test_a_segment_that_the_disk_gives_no_more_keeps_its_session(run, monkeypatch):
    record(run, "a")
    take_in(run)
    before = files.segments(run.recorder / "a")
    with monkeypatch.context() as failing:
        failing.setattr(Path, "read_bytes", fails)
        assert delete_spent(run) == 0
    assert files.segments(run.recorder / "a") == before
    assert delete_spent(run) == len(before)


def test_what_is_not_on_the_disk_for_certain_stays(run, monkeypatch):
    record(run, "a")
    take_in(run)
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", fails)
        assert delete_spent(run) == 0
    assert delete_spent(run) > 0


def fails(path: Path | int) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))


def test_what_is_left_where_deleting_was_cut_short_is_deleted_by_the_next(run, monkeypatch):
    record(run, "a")
    folder = run.recorder / "a"
    (folder / "00009999.rec").write_bytes(bytes(4096))  # made for what was to come
    take_in(run)
    count, unlink, gone = len(files.segments(folder)), Path.unlink, []

    def but_one(path: Path, missing_ok: bool = False) -> None:
        if len(gone) == count - 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        gone.append(path)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as failing:
        failing.setattr(Path, "unlink", but_one)
        delete_spent(run)
    assert len(files.segments(folder)) == 1
    assert delete_spent(run) == 1
    assert not folder.exists()


def test_word_of_what_was_dropped_at_the_cap_stays(run):
    record(run, "a")
    take_in(run)
    word = run.recorder / "a" / DROPPED
    word.write_text("7\n")
    assert delete_spent(run) > 0
    assert list((run.recorder / "a").iterdir()) == [word]


@pytest.mark.parametrize("named", ["a", "b", ""])
def test_what_lives_keeps_its_files_and_where_it_is_not_known_which_does_all_keep_theirs(run, named):
    record(run, "a")
    record(run, "b", branch=1)
    take_in(run)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, os.fspath(run.agent_lock), named], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as agent:
        assert agent.stdout
        assert agent.stdout.readline()
        if not named:
            run.agent_lock.write_text("")
        delete_spent(run)
        agent.communicate(b"")
    expected = [named] if named else ["a", "b"]
    assert [folder.name for folder in files.sessions(run.recorder)] == expected


def test_stacks_that_nobody_asked_for_leave_no_file_and_those_taken_stay(run):
    record(run, "a")
    record(run, "b", branch=1)
    run.reports.mkdir(exist_ok=True)
    empty, taken = run.reports / "stacks-a.txt", run.reports / "stacks-b.txt"
    empty.touch()
    taken.write_text("Thread 1")
    take_in(run)
    delete_spent(run)
    assert list(run.reports.iterdir()) == [taken]


def test_without_a_history_nothing_goes(run):
    record(run, "a")
    assert delete_spent(run) == 0
    assert files.segments(run.recorder / "a")
