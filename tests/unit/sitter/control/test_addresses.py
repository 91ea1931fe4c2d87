"""A run directory that was copied is another run: it neither listens nor speaks where the first one does."""

import shutil

import pytest

from sitter.control.addresses import socket_places
from sitter.locks import take
from sitter_agent import launcher
from sitter_wire import rundir
from sitter_wire.places import RunDir


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("SITTER_RUNTIME_DIR", str(tmp_path / "r"))
    made = rundir.create(tmp_path / "here", "t", command=["x"], supervised=False, sockets="", version="0")
    socket_places(made, rundir.read(made))
    return made


@pytest.mark.parametrize("who", [socket_places, launcher.endpoints], ids=["daemon", "agent"])
def test_a_copy_has_addresses_of_its_own_and_says_so(run, tmp_path, who):
    first = rundir.read(run).sockets
    copy = RunDir(tmp_path / "there" / "t")
    shutil.copytree(run.path, copy.path)
    own = who(copy, rundir.read(copy))
    assert str(own.directory) != first
    assert rundir.read(copy).sockets == str(own.directory)
    assert str(who(run, rundir.read(run)).directory) == first


def test_one_that_was_moved_under_a_living_training_is_found_where_that_speaks(run, tmp_path):
    first = rundir.read(run).sockets
    moved = RunDir(run.path.rename(tmp_path / "moved"))
    assert str(socket_places(moved, rundir.read(moved)).directory) != first
    rundir.write(moved, rundir.with_sockets(rundir.read(moved), first))
    with take(moved.agent_lock):
        assert str(socket_places(moved, rundir.read(moved)).directory) == first
