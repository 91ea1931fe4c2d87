"""Ctrl-C and the script's own alarms in the midst of our work: they reach the script, and what it finds then is whole."""

import signal

import numpy as np
import pytest

from sitter_agent.snapshots import Ring
from sitter_wire.commands import Rollback, TakeCheckpoint
from sitter_wire.events import Restored
from tests.unit.agent.conftest import Quadratic, Run


class AlarmError(Exception):
    """The script's own."""


def ring_alarm(number, frame):
    raise AlarmError


class Interrupted(Quadratic):
    """Its ``load`` is interrupted once, between two of its parts."""

    how = None

    def load(self, state):
        self.w[...] = state["w"]
        how, self.how = self.how, None
        if how == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)
        elif how == "alarm":
            signal.raise_signal(signal.SIGALRM)
        super().load(state)


@pytest.mark.parametrize(("how", "error"), [("Ctrl-C", KeyboardInterrupt), ("alarm", AlarmError)])
def test_a_rollback_that_is_interrupted_is_whole_before_the_script_hears_of_it(begin, daemon, how, error):
    """A script that saves its weights on Ctrl-C would otherwise save a mixture of two steps."""
    before = signal.signal(signal.SIGALRM, ring_alarm)
    try:
        agent = begin()
        d = daemon(agent)
        model = Interrupted().known_to(agent)
        first = model.w.copy()
        turns = agent.steps(100)
        for _ in range(8):
            next(turns)
            model.step(np.full(32, 0.25))
            agent.log(loss=1.0)
        model.how = how
        order = d.order(Rollback(to=0))
        with pytest.raises(error):
            next(turns)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert model.w.tobytes() == first.tobytes()
    assert model.steps == 0
    assert d.outcome(order).status == "applied"
    (restored,) = Run(agent.run).events(Restored)
    assert (restored.step, restored.left) == (0, 8)


def test_a_snapshot_that_is_interrupted_loses_no_slot(begin):
    """The loader's position is asked for after the state was copied: a failure there once cost the memory for good."""
    agent = begin()
    model = Quadratic().known_to(agent)
    turns = agent.steps(1000)
    next(turns)
    ring: Ring = agent._core.ring

    def interrupted(snapshot):
        raise KeyboardInterrupt

    memory = len(ring.held) + len(ring._free) + len(ring._unused)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            ring.take(agent._core.adapter, interrupted, agent._core.progress, 0)
    assert len(ring.held) + len(ring._free) + len(ring._unused) == memory == ring.slots
    assert model.steps == 0


def test_a_step_that_the_script_counts_again_is_not_taken_for_the_one_before(begin, daemon, tmp_path):
    """Steps that begin at 0 in every epoch: the checkpoint of epoch 2's step 0 must not be the snapshot of epoch 1's."""
    agent = begin()
    d = daemon(agent)
    model = Quadratic().known_to(agent)
    agent.safe_point(0)
    order = None
    for epoch in range(2):
        for step in range(3):
            model.step(np.full(32, 0.25))
            if (epoch, step) == (1, 0):
                order = d.order(TakeCheckpoint())
            agent.safe_point(step)
    path = d.outcome(order).detail["path"]
    with np.load(path) as saved:
        then = saved["w"].copy()
    again = Quadratic()
    for _ in range(4):
        again.step(np.full(32, 0.25))
    assert then.tobytes() == again.w.tobytes()
