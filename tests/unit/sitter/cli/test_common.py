"""What all demands have in common."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from sitter import client
from sitter.cli import common
from sitter.errors import DaemonError
from sitter.paths import look
from sitter_wire import rundir
from sitter_wire.places import Endpoints
from sitter_wire.queries import GetStatus
from tests.unit.sitter.control.conftest import living

LEAVES = """
import fcntl, sys, zmq
lock = open(sys.argv[1], "a+")
fcntl.lockf(lock, fcntl.LOCK_EX)
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind("ipc://" + sys.argv[2])
print("watches", flush=True)
socket.recv_multipart()
"""


def test_of_a_daemon_that_answers_nothing_one_is_told_before_the_order_is_sent(tmp_path, monkeypatch):
    """A checkpoint may take five minutes; to wait as long for a daemon that is stopped would tell nobody why."""
    monkeypatch.setattr(common, "ANSWERS_S", 0.1)
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    began = time.monotonic()
    with living(SimpleNamespace(agent_lock=run.daemon_lock), "s"), pytest.raises(DaemonError, match="the daemon of t"):
        common.demand("checkpoint", [], str(run.path))
    assert time.monotonic() - began < 60.0


@pytest.fixture
def leaving(tmp_path, monkeypatch):
    """A run whose daemon leaves just as it is asked, and answers nothing."""
    monkeypatch.setattr(client, "LOOK_MS", 10)
    monkeypatch.setattr(client, "ON_ITS_WAY_MS", 10)
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    places = Endpoints.of_run(run.path)
    places.create()
    words = [sys.executable, "-c", LEAVES, str(run.daemon_lock), str(places.client)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout.readline() == b"watches\n"
        yield run
        daemon.kill()


def test_where_the_daemon_leaves_as_it_is_asked_the_runs_own_files_answer(leaving):
    with common.asking(look(leaving)) as asked:
        assert asked._pid is not None
        status = asked.ask(GetStatus(), 60.0)
    assert (status.run, status.daemon) == ("t", None)


def test_and_a_dead_training_is_not_acted_on(leaving, capsys):
    assert common.demand("pause", [], str(leaving.path)) == 1
    assert "nothing to act on" in capsys.readouterr().err
