"""The daemon as a whole, in this process: when it leaves."""

import contextlib
import errno
import logging
import subprocess

import pytest

from sitter.clock import SystemClock
from sitter.store.reader import Reader
from sitter.wiring import PUT_BACK, Daemon
from sitter_wire import rundir


def test_one_that_has_left_leaves_the_history_as_one_file(tmp_path):
    """Whole and synced; whoever copies it has it all."""
    run = rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")
    daemon = Daemon(run, SystemClock())
    daemon.core.keep("before", 1)
    daemon.stop()
    daemon.serve()
    assert daemon.close()
    assert [path.name for path in run.path.glob("history.db*")] == ["history.db"]
    with contextlib.closing(Reader(run.history)) as reader:
        assert reader.get("before") == 1


def test_one_whose_history_was_deleted_under_it_leaves_and_puts_it_back_for_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("sitter.wiring.GONE_S", 0)
    run = rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")
    daemon = Daemon(run, SystemClock())
    daemon.core.keep("before", 1)
    assert daemon.writer.flush(60)
    for part in run.path.glob("history.db*"):
        part.unlink()
    daemon.core.keep("after", 1)
    daemon.serve()
    assert daemon.close()
    assert [path.name for path in run.path.glob("history.db*")] == ["history.db"], "whole, and nothing is set aside"
    with contextlib.closing(Reader(run.history)) as reader:
        assert (reader.get("before"), reader.get("after")) == (1, 1)
        assert reader.logbook()[-1].detail == PUT_BACK


def test_of_a_command_after_the_end_that_cannot_be_started_the_logbook_says_so(tmp_path, monkeypatch):
    def refused(*words, **how):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    run = rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0", then="poweroff")
    daemon = Daemon(run, SystemClock())
    try:
        with monkeypatch.context() as no_more_processes:
            no_more_processes.setattr(subprocess, "Popen", refused)
            daemon.ending._run_then("crashed")
        assert daemon.writer.flush(60)
        (line,) = [entry for entry in daemon.reader.logbook() if entry.action == "then"]
        assert (line.kind, line.status) == ("command", "failed")
        assert line.detail == "poweroff: it could not be started: Resource temporarily unavailable"
    finally:
        daemon.close()


class BrokenError(Exception):
    """Of our own, in the writer's thread."""


def broken():
    raise BrokenError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_whose_history_takes_nothing_more_leaves_and_says_why(tmp_path, monkeypatch, caplog):
    run = rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")
    daemon = Daemon(run, SystemClock())
    try:
        daemon.core.keep("before", 1)
        assert daemon.writer.flush(60)
        monkeypatch.setattr(daemon.writer, "_drain", broken)
        daemon.core.keep("after", 1)
        with caplog.at_level(logging.ERROR):
            daemon.serve()
        assert "the history's thread has ended: leaving" in caplog.text
        assert any("nothing is stored any more" in text for text in daemon.core.warnings())
    finally:
        daemon.close()
    with contextlib.closing(Reader(run.history)) as reader:
        assert (reader.get("before"), reader.get("after")) == (1, None)
