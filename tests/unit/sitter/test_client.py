"""What is said where nobody answers, and what is heard of one that has left."""

import subprocess
import sys
import threading

import pytest
import zmq

from sitter.client import Client, endpoints
from sitter.errors import DaemonError
from sitter.locks import holder
from sitter.model import Answered
from sitter_wire import codec, rundir
from sitter_wire.places import Endpoints
from sitter_wire.queries import GetStatus, Reply, StopNow

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


def test_an_answer_that_is_still_on_its_way_when_its_daemon_has_left_is_waited_for(client, monkeypatch):
    run, asks = client
    seen_gone = threading.Event()

    def looks(path):
        pid = holder(path)
        if pid is None:
            seen_gone.set()
        return pid

    monkeypatch.setattr("sitter.client.holder", looks)
    monkeypatch.setattr("sitter.client.ON_ITS_WAY_MS", 60_000)
    places = endpoints(run)
    places.create()
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(run.daemon_lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout.readline() == b"held\n"

        def serves():
            with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
                socket.bind(Endpoints.url(places.client))
                who, asked = socket.recv_multipart()
                daemon.stdin.close()
                seen_gone.wait(60)
                said = Answered(status="applied", text="it has ended")
                socket.send_multipart([who, codec.encode(Reply(id=codec.request(asked).id, data=said))])

        thread = threading.Thread(target=serves)
        thread.start()
        assert asks.ask(StopNow(), 60.0).text == "it has ended"
        thread.join()
