"""What all demands have in common."""

import time
from types import SimpleNamespace

import pytest

from sitter.cli import common
from sitter.errors import DaemonError
from sitter_wire import rundir
from tests.unit.sitter.control.conftest import living


def test_of_a_daemon_that_answers_nothing_one_is_told_before_the_order_is_sent(tmp_path, monkeypatch):
    """A checkpoint may take five minutes; to wait as long for a daemon that is stopped would tell nobody why."""
    monkeypatch.setattr(common, "ANSWERS_S", 0.1)
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    began = time.monotonic()
    with living(SimpleNamespace(agent_lock=run.daemon_lock), "s"), pytest.raises(DaemonError, match="the daemon of t"):
        common.demand("checkpoint", [], str(run.path))
    assert time.monotonic() - began < 60.0
