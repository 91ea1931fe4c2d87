"""``[checkpoints] after``: once for every checkpoint, and nothing about it is left unsaid."""

import contextlib
import time

import pytest

from sitter.clock import SystemClock
from sitter.config import parse
from sitter.control.after_checkpoint import AfterCheckpoint
from sitter.model import CheckpointInfo
from sitter.store.reader import Reader
from sitter_wire import rundir
from tests.unit.sitter.control.conftest import opened

DEADLINE_S = 60.0


@pytest.fixture
def run(tmp_path):
    return rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")


@contextlib.contextmanager
def daemon(run, command):
    """One daemon's core and what it does about checkpoints; what it wrote is committed when it is left."""
    config = parse(f'[checkpoints]\nafter = "{command}"\n', "sitter.toml")
    with opened(run, config=config) as core, contextlib.closing(Reader(run.history)) as reader:
        yield core, AfterCheckpoint(core, reader, SystemClock())


def written(core, step, at):
    """The agent's word of a checkpoint."""
    path = f"checkpoints/{step}-0.pt"
    (core.run.path / path).write_bytes(b"x")
    info = CheckpointInfo(branch=0, step=step, path=path, bytes=1, good=False, verified=True, time=at)
    core.present.checkpoints[path] = info
    core.writer.checkpoint(info)


def until_idle(after):
    deadline = time.monotonic() + DEADLINE_S
    after.tick()
    while after.busy:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        after.tick()


def outcomes(run):
    with contextlib.closing(Reader(run.history)) as reader:
        return [(line.step, line.status) for line in reader.logbook() if line.kind == "outcome"]


def test_once_for_each_also_where_the_clock_was_turned_back_between_them(run):
    with daemon(run, "echo {step} >> copied") as (core, after):
        written(core, 10, 10_000.0)
        until_idle(after)
        written(core, 20, 6_400.0)
        until_idle(after)
    with daemon(run, "echo {step} >> copied") as (_, after):
        until_idle(after)
    assert (run.path / "copied").read_text().split() == ["10", "20"]
    assert outcomes(run) == [(10, "applied"), (20, "applied")]


def test_one_whose_daemon_ends_before_it_is_not_left_unsaid(run):
    with daemon(run, "while [ ! -e go ]; do sleep 0.05; done; echo {step} >> copied") as (core, after):
        written(core, 10, 10_000.0)
        after.tick()
        assert after.busy
    with daemon(run, "true") as (_, after):
        until_idle(after)
    (run.path / "go").touch()
    deadline = time.monotonic() + DEADLINE_S
    while not (run.path / "copied").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert outcomes(run) == [(10, "unanswered")]


def test_what_could_not_be_kept_up_with_is_left_out_once(run):
    with daemon(run, "echo {step} >> copied") as (core, after):
        for step in range(10, 60, 10):
            written(core, step, 10_000.0 + step)
        until_idle(after)
    with daemon(run, "echo {step} >> copied") as (_, after):
        until_idle(after)
    assert (run.path / "copied").read_text().split() == ["30", "40", "50"]
