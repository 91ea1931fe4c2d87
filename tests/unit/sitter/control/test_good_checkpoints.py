"""No checkpoint is called good before healthy steps FOLLOWED it, nor gone on from without having been verified."""

import math
import time

import pytest

from sitter.cli.again import choose
from sitter.config import parse
from sitter.model import CheckpointInfo
from sitter_wire.events import CheckpointWritten, SessionStart
from sitter_wire.records import Happening, Point
from tests.unit.sitter.control.conftest import opened

HEALTHY = 60


@pytest.fixture
def core(run):
    with opened(run, config=parse(f"[checkpoints]\nhealthy_steps = {HEALTHY}\n", "sitter.toml")) as made:
        made.flow.session("s", (time.time_ns(), time.monotonic_ns()))
        made.told = Told(made)
        yield made


class Told:
    def __init__(self, core):
        self.core, self.seq = core, 0
        self.event(SessionStart(pid=1, host="h", branch=0), 0)

    def event(self, event, step):
        self.seq += 1
        self.core.flow.records("s", [Happening(self.seq, step, 0, time.monotonic_ns(), event)])

    def steps(self, first, last, loss=lambda step: 3.0 - step / 1000):
        for step in range(first, last + 1):
            self.seq += 1
            self.core.flow.records("s", [Point(self.seq, step, 0, time.monotonic_ns(), ("loss",), (loss(step),))])
        self.core.tick()

    def checkpoint(self, step):
        written = CheckpointWritten(branch=0, step=step, path=f"checkpoints/{step}-0.pt", bytes=1, sha256="", verified=True, cleared=True)
        self.event(written, step)


def good(core):
    return [c.step for c in core.present.checkpoints.values() if c.good]


def test_good_only_once_enough_healthy_steps_followed(core):
    core.told.steps(1, 200)
    core.told.checkpoint(200)
    core.tick()
    assert good(core) == [], "the healthy steps before it do not count"
    core.told.steps(201, 200 + HEALTHY - 1)
    assert good(core) == []
    core.told.steps(200 + HEALTHY, 200 + HEALTHY + 10)  # the newest points are never vouched for yet
    assert good(core) == [200]


def test_steps_after_a_fault_do_not_make_it_good(core):
    core.told.steps(1, 200)
    core.told.checkpoint(200)
    core.told.steps(201, 220)
    core.told.steps(221, 221 + 2 * HEALTHY, lambda step: math.nan)
    assert good(core) == []


def info(step, *, good=False, verified=True):
    return CheckpointInfo(branch=0, step=step, path="/c", bytes=1, good=good, verified=verified)


@pytest.mark.parametrize("orderly", [False, True])
def test_what_was_not_verified_is_never_gone_on_from(orderly):
    assert choose([info(9, good=True, verified=False), info(5), info(7, verified=False)], orderly=orderly).step == 5
    assert choose([info(9, good=True, verified=False)], orderly=orderly) is None
    assert choose([info(3, good=True), info(5)], orderly=orderly).step == (5 if orderly else 3)
