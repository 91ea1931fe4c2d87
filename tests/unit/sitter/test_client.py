"""What is said where nobody answers."""

import subprocess
import sys

import pytest

from sitter.client import Client, endpoints
from sitter.errors import DaemonError
from sitter_wire import rundir
from sitter_wire.queries import GetStatus

HOLDS = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("SITTER_RUNTIME_DIR", str(tmp_path / "r"))
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    made = Client(run)
    yield run, made
    made.close()


def test_where_there_is_no_daemon_it_is_said_how_to_start_one(client):
    run, asks = client
    with pytest.raises(DaemonError, match=f"no daemon answers for run t; `sitter attach -r {run.path}` starts one"):
        asks.ask(GetStatus(), 0.05)


def test_one_that_is_there_and_silent_is_named_since_no_other_could_be_started(client):
    run, asks = client
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(run.daemon_lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stopped:
        assert stopped.stdout.readline() == b"held\n"
        with pytest.raises(DaemonError, match=rf"the daemon of t \(process {stopped.pid}\) has no socket at .*ask in there"):
            asks.ask(GetStatus(), 0.05)
        places = endpoints(run)
        places.create()
        places.client.touch()
        with pytest.raises(DaemonError, match=rf"the daemon of t \(process {stopped.pid}\) does not answer: .*`kill -9 {stopped.pid}`"):
            asks.ask(GetStatus(), 0.05)
        stopped.stdin.close()
