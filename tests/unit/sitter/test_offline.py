"""A run without a daemon, looked at by a command: what it had opened it gives back, also where it fails."""

import pytest

from sitter.errors import StoreError
from sitter.locks import take
from sitter.offline import Offline
from sitter_wire import rundir


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
