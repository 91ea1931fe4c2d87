"""What scripts do with strange things must end as it would without us, and cost no more than what cannot be had."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sitter_wire.commands import Rollback
from sitter_wire.events import Restored
from tests.unit.agent.conftest import Quadratic, Run


def test_what_holds_an_agent_can_be_copied_and_sent_to_a_worker(begin):
    """A trainer that is copied deep; a data set that a spawned worker gets by pickle."""
    agent = begin()
    holder = {"agent": agent}
    assert copy.deepcopy(holder)["agent"] is agent
    there = pickle.loads(pickle.dumps(holder))["agent"]
    assert not there.recording
    there.log(loss=1.0)
    assert list(there.steps(3)) == [0, 1, 2]
    agent.log(loss=2.0)
    assert Run(agent.run).values("loss") == [(0, 2.0)]


class Proxy:
    """Answers every question about itself with an error that is no AttributeError."""

    def __getattr__(self, name):
        raise RuntimeError(f"not loaded yet: {name}")

    def __iter__(self):
        return iter([1, 2])


def test_a_loader_that_raises_when_it_is_looked_at_is_still_iterated(begin):
    assert [batch for _, batch in begin().loop(Proxy(), total=3)] == [1, 2, 1]


class Dumb:
    """Has the methods, and they fail."""

    def state_dict(self):
        raise NotImplementedError("no shards yet")

    def load_state_dict(self, state):
        raise NotImplementedError

    def __iter__(self):
        return iter([np.full(32, 0.25)] * 5)


def test_a_loader_that_fails_to_say_where_it_stands_costs_the_replay_and_not_the_rollback(begin, daemon, capsys):
    agent = begin()
    d = daemon(agent)
    model = Quadratic().known_to(agent)
    first = model.w.copy()
    turns = agent.loop(Dumb(), total=50)
    for _ in range(8):
        _, batch = next(turns)
        model.step(batch)
    order = d.order(Rollback(to=0, replay=True))
    next(turns)
    outcome = d.outcome(order)
    assert outcome.status == "applied"
    assert outcome.detail["exact"] is False
    assert model.w.tobytes() == first.tobytes()
    assert len(Run(agent.run).events(Restored)) == 1
    assert capsys.readouterr().err.count("the loader does not say where it stands") == 1


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, Proxy()], ids=["a class", "a proxy"])
def test_an_optimizer_that_cannot_be_looked_at_is_said_and_the_losses_are_recorded(begin, capsys, optimizer):
    agent = begin(model=nn.Linear(2, 2), optimizer=optimizer)
    assert agent.recording
    for step in agent.steps(3):
        agent.log(loss=float(step))
    assert Run(agent.run).values("loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert "failed" in capsys.readouterr().err
