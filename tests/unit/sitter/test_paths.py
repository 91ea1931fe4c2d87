"""Runs are found from any directory, and none is forgotten that is still there."""

import os
import shutil
import time
from pathlib import Path

import pytest

from sitter.errors import RunError, UsageError
from sitter.locks import take
from sitter.paths import MISSED_S, find, register, registry, runs, unseen
from sitter_wire import rundir


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes a registered run; the working directory is another."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def make(name, place="disk"):
        run = rundir.create(tmp_path / place / "sitter-runs", name, command=["x"], supervised=True, sockets="", version="0")
        register(run)
        return run

    return make


def _held(path):
    """By this very process, while the file that is returned is open."""
    file = take(path)
    assert file is not None
    return file


def names():
    return sorted(found.info.name for found in runs())


def test_it_is_found_from_any_directory_until_it_is_deleted(made, tmp_path):
    run = made("a")
    made("b")
    assert names() == ["a", "b"]
    assert find("a", acts=True).run.path == run.path
    shutil.rmtree(run.path)
    assert names() == ["b"]
    assert len(list(registry().iterdir())) == 1
    made("c", "project")
    shutil.rmtree(tmp_path / "project")
    assert (names(), unseen()) == (["b"], [])
    assert len(list(registry().iterdir())) == 1
    with pytest.raises(RunError, match="no run named 'a'; known runs: b"):
        find("a", acts=False)


@pytest.mark.parametrize("mounted_at", ["", "sitter-runs"])
def test_one_whose_disk_is_not_mounted_yet_is_not_forgotten(made, tmp_path, mounted_at):
    """At a boot `resume --all` may come before a file server does, and what it forgets no later one would find."""
    made("a")
    disk, unmounted = tmp_path / "disk" / mounted_at, tmp_path / "unmounted"
    disk.rename(unmounted)
    disk.mkdir()
    assert names() == []
    assert [path.name for path in unseen()] == ([] if mounted_at else ["a"]), "an empty sitter-runs is more often one of deleted runs"
    disk.rmdir()
    unmounted.rename(disk)
    assert (names(), unseen()) == (["a"], [])


def test_one_that_was_seen_on_no_disk_for_months_is_forgotten(made, tmp_path):
    made("a")
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    (tmp_path / "disk").mkdir()
    (entry,) = registry().iterdir()
    os.utime(entry, (0, time.time() - MISSED_S - 1.0))
    assert names() == []
    assert not entry.exists()


def test_one_that_was_seen_lately_is_not_forgotten_however_long_ago_it_was_begun(made, tmp_path):
    made("a")
    (entry,) = registry().iterdir()
    os.utime(entry, (0, time.time() - MISSED_S - 1.0))
    assert names() == ["a"]
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    (tmp_path / "disk").mkdir()
    assert names() == []
    assert [path.name for path in unseen()] == ["a"]


def test_a_place_that_cannot_be_asked_keeps_nobody_from_the_other_runs(made, tmp_path):
    made("a")
    entry = registry() / "0"
    entry.write_text(f"{tmp_path}/{'x' * 300}\n")  # ENAMETOOLONG: raised by whoever asks, as ESTALE and EACCES are
    assert names() == ["a"]
    assert unseen() == []
    assert entry.exists()


def test_an_entry_that_is_being_written_hides_no_run_and_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    registry().mkdir(parents=True)
    entry = registry() / "0123456789abcdef"
    entry.touch()
    assert runs() == []
    assert entry.exists()


def test_a_run_that_may_not_be_entered_hides_none_of_the_others(made, tmp_path, monkeypatch):
    """As one that was begun with sudo. Root may enter everything, so the system's answer to anybody else is given here."""
    made("a")
    shut = made("shut").path
    asks = Path.is_file

    def answers(path):
        if path.is_relative_to(shut):
            raise PermissionError(13, "Permission denied", str(path))
        return asks(path)

    monkeypatch.setattr(Path, "is_file", answers)
    monkeypatch.chdir(tmp_path / "disk")
    assert names() == ["a"]
    assert find("a", acts=True).info.name == "a"
    (shut / "run.toml").write_text("no run")
    with pytest.raises(RunError, match=r"cannot read .*shut/run.toml"):
        find("shut", acts=False)


def test_a_name_means_the_run_in_this_directory_before_one_elsewhere(made, tmp_path, monkeypatch):
    here = made("demo")
    made("demo", "project")  # newer
    monkeypatch.chdir(tmp_path / "disk")
    assert find("demo", acts=False).run.path == here.path
    assert find("demo", acts=True).run.path == here.path
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="2 runs are named 'demo': give the path of one with -r"):
        find("demo", acts=True)


def test_a_training_without_an_agent_yet_is_live_until_its_parent_has_said_how_it_ended(made):
    run, other = made("a"), made("b")
    with _held(run.parent_lock), _held(other.agent_lock):
        assert [found.live for found in runs()] == [True, True]
        with pytest.raises(UsageError, match="2 runs are live, so say which"):
            find(None, acts=True)
        run.exit_json.write_text('{"code": 0, "signal": null}')
        assert find(None, acts=True).info.name == "b"
