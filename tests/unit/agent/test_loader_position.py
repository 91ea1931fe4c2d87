"""A loader that can tell where it stands goes on from there in another process; of any other it is said that it begins a pass."""

import numpy as np
import pytest
import torch
from torch import nn

from sitter_agent.loader_position import foreign
from sitter_wire.commands import Rollback, TakeCheckpoint
from sitter_wire.events import Remark
from tests.unit.agent.conftest import Draws, Quadratic, Run

TOTAL, AT = 40, 23


class Shuffled:
    """Passes of 7 in an order that torch's generator gives; a pass that was begun goes on in its own order."""

    def __init__(self):
        self.data = torch.randn(7, 8, generator=torch.Generator().manual_seed(3))
        self.order, self.at, self.resumed = torch.arange(0), 0, False

    def __iter__(self):
        if not self.resumed:
            self.order, self.at = torch.randperm(7), 0
        self.resumed = False
        while self.at < 7:
            self.at += 1
            yield self.data[self.order[self.at - 1]]

    def state_dict(self):
        return {"order": self.order, "at": self.at, "as array": self.order.numpy(), "kind": ("shuffled", None, 1.5, True)}

    def load_state_dict(self, state):
        assert state["kind"] == ("shuffled", None, 1.5, True)
        assert state["as array"].tolist() == state["order"].tolist()
        self.order, self.at, self.resumed = state["order"], state["at"], True


class InLists(Shuffled):
    """Its state in numbers only, for a training without a framework."""

    def state_dict(self):
        return {"order": self.order.tolist(), "at": self.at}

    def load_state_dict(self, state):
        self.order, self.at, self.resumed = torch.tensor(state["order"]), state["at"], True


def plain_training(begin, loader, d=None, total=TOTAL):
    """A framework-free run, with an order at step ``AT``; the model and the outcome."""
    model = Quadratic()
    agent = begin()
    model.known_to(agent)
    join = d(agent) if d is not None else None
    order = outcome = None
    for step, batch in agent.loop(loader, total=total):
        agent.log(loss=model.step(batch))
        if join is not None and step == AT:
            order = join.order(TakeCheckpoint())
    if join is not None:
        outcome = join.outcome(order)
    agent.close()
    return model, outcome


def run_of(outcome):
    return outcome.detail["path"].rpartition("/checkpoints/")[0]


def going_on(monkeypatch, outcome):
    monkeypatch.setenv("SITTER_RUN", run_of(outcome))
    monkeypatch.setenv("SITTER_RESUME", outcome.detail["path"])


def test_without_a_framework_a_new_process_ends_as_the_run_that_was_never_broken_off(begin, daemon, monkeypatch, capsys):
    clean, _ = plain_training(begin, Draws())
    _, outcome = plain_training(begin, Draws(), daemon, total=AT + 5)
    going_on(monkeypatch, outcome)
    capsys.readouterr()
    again, _ = plain_training(begin, Draws())
    assert again.w.tobytes() == clean.w.tobytes()
    said = capsys.readouterr().err
    assert "not put back" not in said
    assert f"the loader goes on after {AT + 1} batches of its pass 1" in said
    assert any("the loader goes on after" in remark.text for remark in Run(run_of(outcome)).events(Remark))


def torch_training(begin, loader, total=TOTAL, d=None, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.4), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    agent = begin(model=model, optimizer=optimizer)
    join = d(agent) if d is not None else None
    order = None
    for step, x in agent.loop(loader, total=total):
        loss = (model(x) - x.sum()).pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        agent.log(loss=loss)
        if join is not None and step == AT:
            order = join.order(TakeCheckpoint())
    outcome = join.outcome(order) if join is not None else None
    agent.close()
    return model, outcome


def test_with_torch_the_pass_goes_on_and_every_later_pass_is_shuffled_as_it_would_have_been(begin, daemon, monkeypatch, capsys):
    clean, _ = torch_training(begin, Shuffled())
    _, outcome = torch_training(begin, Shuffled(), AT + 5, daemon)
    going_on(monkeypatch, outcome)
    capsys.readouterr()
    again, _ = torch_training(begin, Shuffled(), seed=77)
    assert "not put back" not in capsys.readouterr().err
    for name, value in clean.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_by_epochs_the_pass_that_was_broken_off_is_gone_on_with(begin, daemon, monkeypatch):
    def by_epochs(d=None, stop=None):
        model, seen, order = Quadratic(), [], None
        agent = begin()
        model.known_to(agent)
        join = d(agent) if d is not None else None
        data = InLists()
        for epoch in agent.epochs(4):
            for x in agent.batches(data):
                seen.append((epoch, agent.step, x.tolist()))
                model.step(np.full(32, float(x.sum())))
                if join is not None and agent.step == 10:
                    order = join.order(TakeCheckpoint())
                if agent.step == stop:
                    outcome = join.outcome(order)
                    agent.close()
                    return seen, outcome
        agent.close()
        return seen, None

    torch.manual_seed(1)
    clean, _ = by_epochs()
    torch.manual_seed(1)
    _, outcome = by_epochs(daemon, stop=13)
    assert outcome.detail["step"] == 11
    going_on(monkeypatch, outcome)
    rest, _ = by_epochs()
    assert rest == clean[11:]


def test_rollback_with_replay_from_a_checkpoint_rewinds_the_data_too(begin, daemon, monkeypatch):
    clean, _ = plain_training(begin, Draws())
    agent = begin()
    d = daemon(agent)
    model = Quadratic().known_to(agent)
    order = taken = None
    sick = True
    for step, batch in agent.loop(Draws(), total=TOTAL):
        model.step(batch)
        if step == 10 and sick:
            taken = d.order(TakeCheckpoint())
        if step == 30 and sick:
            sick = False
            assert d.outcome(taken).status == "applied"
            agent._core.ring.held.clear()
            model.w[...] = np.nan
            order = d.order(Rollback(to=11, replay=True))
    outcome = d.outcome(order)
    assert (outcome.detail["source"], outcome.detail["exact"]) == ("checkpoint", True), outcome.text
    assert model.w.tobytes() == clean.w.tobytes()


def test_a_loader_that_cannot_tell_begins_a_pass_and_that_is_said(begin, daemon, monkeypatch, capsys):
    data = [np.full(32, 0.25)]
    _, outcome = plain_training(begin, data, daemon)
    going_on(monkeypatch, outcome)
    capsys.readouterr()
    plain_training(begin, data)
    assert "not put back: the loader's position (it has no state_dict: it begins a pass)" in capsys.readouterr().err


class Refusing(Draws):
    def load_state_dict(self, state):
        raise KeyError("another version of me")


@pytest.mark.parametrize(
    ("other", "why"),
    [(Refusing, "KeyError: 'another version of me'"), (lambda: [np.full(32, 0.25)], "the loader has no load_state_dict")],
    ids=["refuses", "cannot"],
)
def test_a_loader_that_does_not_take_its_position_begins_a_pass_and_that_is_said(begin, daemon, monkeypatch, capsys, other, why):
    _, outcome = plain_training(begin, Draws(), daemon)
    going_on(monkeypatch, outcome)
    capsys.readouterr()
    model, _ = plain_training(begin, other())
    assert model.steps == TOTAL
    assert f"the loader's position was NOT put back ({why}): it begins a pass" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "tensors", "found"),
    [
        ({"a": [1, (2.0, "x", None, b"y")], 3: True}, False, ""),
        ({"a": np.arange(3)}, False, ""),
        ({"a": torch.arange(3)}, True, ""),
        ({"a": torch.arange(3)}, False, "Tensor"),
        ({"a": {1, 2}}, True, "set"),
        ({"a": np.array([object()])}, True, "ndarray"),
        ({(1, 2): 3}, True, "key of type tuple"),
        ({"a": np.float32(3)}, True, "float32"),
    ],
)
def test_what_a_checkpoint_cannot_give_back_as_it_was_is_named(state, tensors, found):
    assert foreign(state, tensors=tensors) == found
