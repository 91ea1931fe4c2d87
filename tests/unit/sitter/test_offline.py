"""A run without a daemon, looked at by a command: what it had opened it gives back, also where it fails."""

import contextlib

import pytest

from sitter.daemon import watch
from sitter.errors import ConfigError, DaemonError, StoreError
from sitter.locks import take
from sitter.offline import Offline
from sitter_wire import rundir
from sitter_wire.queries import AddNote, GetLogbook, GetRules, GetStatus, SetMode, Snooze
from tests.unit.sitter.conftest import held_elsewhere


@pytest.fixture
def run(tmp_path):
    return rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")


def test_a_look_that_fails_does_not_keep_the_run(run, monkeypatch):
    run.history.write_bytes(b"this was a database once\n" * 500)
    with pytest.raises(StoreError):
        Offline(run)
    lock = take(run.daemon_lock)
    assert lock is not None
    lock.close()
    run.history.unlink()

    def fails(*_, **__):
        raise StoreError("a bug")

    monkeypatch.setattr("sitter.offline.Core", fails)
    with pytest.raises(StoreError, match="a bug"):
        Offline(run)
    monkeypatch.undo()
    Offline(run).close()
    Offline(run).close()


def test_a_daemon_that_has_no_pid_here_is_said_to_be_elsewhere(run):
    with held_elsewhere(run.daemon_lock), pytest.raises(DaemonError, match="on another machine, or in another container: ask there"):
        Offline(run)


def test_nor_is_another_one_started_beside_it(run):
    with held_elsewhere(run.daemon_lock), pytest.raises(DaemonError, match="on another machine, or in another container: ask there"):
        watch(run, lambda: None)


@pytest.mark.parametrize("text", ["mode = 'brave'", "[rules.gpu_hott]\nmode = 'ask'", "rule_files = ['mine.py']"])
def test_settings_that_cannot_be_read_keep_nobody_from_looking_and_everybody_from_changing(run, text):
    with contextlib.closing(Offline(run)) as offline:
        assert offline.ask(AddNote(text="before")).status == "applied"
    before = run.history.read_bytes()
    run.sitter_toml.write_text(text)
    with contextlib.closing(Offline(run)) as offline:
        assert any("nobody watches, for want of settings" in w and "sitter.toml" in w for w in offline.ask(GetStatus()).warnings)
        assert [entry.detail for entry in offline.ask(GetLogbook())] == ["before"]
        for query in (AddNote(text="lost"), SetMode(mode="act"), Snooze(rule="guard", seconds=60.0), GetRules()):
            with pytest.raises(ConfigError, match=r"sitter\.toml"):
                offline.ask(query)
    assert run.history.read_bytes() == before
