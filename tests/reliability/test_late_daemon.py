"""A daemon that comes late, to a long past and a training that goes on: it answers while it reads, and everything is there once."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from sitter.client import Client
from sitter.locks import holder
from sitter.model import Status
from sitter.store.reader import Reader
from sitter.supervise.daemon_process import start_daemon
from sitter_wire.places import RunDir
from sitter_wire.queries import GetStatus, Settle
from tests.reliability.figures.untouchable import until

TRAINING = """
    import os, pathlib, signal, sitter_agent, sys, time
    steps = int(sys.argv[1])
    agent = sitter_agent.start(name="x", daemon=False)
    for step in agent.steps(1 << 60):
        agent.log(loss=2.0 + step % 7 / 100)
        if step == steps - 1:
            print("logged", flush=True)
            if sys.argv[2] == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
        if step >= steps:
            time.sleep(0.02)
            if pathlib.Path("enough").exists():
                break
"""


def kept(run: RunDir) -> dict[str, np.ndarray]:
    """session → steps of all its values in the history, in order of their sequence numbers."""
    reader = Reader(run.history)
    try:
        parts: dict[int, list[np.ndarray]] = {}
        for group in reader.groups():
            if "loss" in group.names:
                for rows in reader.rows(group):
                    parts.setdefault(rows.session, []).append(np.array([rows.seq, rows.step]))
        names = reader.clocks().names
    finally:
        reader.close()
    found = {names[number]: np.concatenate(rows, axis=1) for number, rows in parts.items()}
    return {session: both[1][np.argsort(both[0], kind="stable")] for session, both in found.items()}


@pytest.mark.parametrize("steps", [120_000, pytest.param(600_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_it_answers_while_it_reads_and_everything_comes_once(script, start, tmp_path, monkeypatch, steps):
    path = script(TRAINING)
    assert "logged" in start(sys.executable, str(path), str(steps), "dies").communicate(timeout=120)[0]
    run = RunDir(tmp_path / "sitter-runs" / "x")
    monkeypatch.setenv("SITTER_RUN", str(run.path))
    training = start(sys.executable, str(path), "2000", "lives on")
    monkeypatch.delenv("SITTER_RUN")
    until(lambda: holder(run.agent_lock) == training.pid and written(run) > 1, 120.0, "the second did not begin")
    start_daemon(run)
    client, answers = Client(run), []
    try:

        def ask() -> Status:
            answers.append(client.ask(GetStatus(), 60.0))
            return answers[-1]

        until(lambda: ask().branch == 1 and answers[-1].state == "running" and answers[-1].step >= 2000, 120.0, "the present never came")
        reading = [s for s in answers if any("still being read" in w for w in s.warnings)]
        assert reading, "nobody was answered before it was all read"
        assert {s.state for s in reading} == {"starting"}, "the present is not known before the past is"
        steps_seen = [s.step for s in answers if s.branch == 0]
        assert steps_seen == sorted(steps_seen)
        (tmp_path / "enough").touch()
        training.communicate(timeout=120)
        until(lambda: ask().state in ("finished", "stopped"), 120.0, "its end was not seen")
        assert client.ask(Settle(), 60.0).status == "applied"
        assert answers[-1].warnings == []
    finally:
        client.close()
        pid = holder(run.daemon_lock)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    first, second = sorted(kept(run).values(), key=len, reverse=True)
    assert np.array_equal(first, np.arange(steps)), "each step of the first once, in order"
    assert np.array_equal(second, np.arange(len(second)))
    assert len(second) > 2000


def written(run: RunDir) -> int:
    """Sessions that have a segment."""
    return len({Path(p).parent for p in run.recorder.rglob("*.rec")})
