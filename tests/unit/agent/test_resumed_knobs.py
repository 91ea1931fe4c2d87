"""A knob of the script's own after a restart: what the run had done to it goes on, whether or not the state held its value."""

import os
from pathlib import Path

import pytest

from sitter_agent.knobs import FreeKnob
from sitter_wire.commands import SetKnob, TakeCheckpoint
from sitter_wire.events import KnobChanged, Remark
from tests.unit.agent.conftest import Run


class Script:
    """One process of a training with a temperature; ``in_state``: whether its own state has that, ``first``: the knob before the state."""

    def __init__(self, agent, value=0.8, *, in_state=False, first=False, knob=True):
        self.agent, self.value, self.in_state, self.w = agent, value, in_state, 0.0
        if first:
            self.declare()
        agent.state(save=self.save, load=self.load)
        if knob and not first:
            self.declare()
        self.turns = agent.steps(1000)
        next(self.turns)

    def declare(self):
        self.agent.knob(
            "temperature", get=lambda: self.value, set=lambda v: setattr(self, "value", v), low=1e-3, high=10.0, scale="log"
        )

    def save(self):
        return {"w": self.w, **({"temperature": self.value} if self.in_state else {})}

    def load(self, state):
        self.w = state["w"]
        self.value = state.get("temperature", self.value)

    def turn(self, n=1):
        for _ in range(n):
            self.w += 1.0
            next(self.turns)

    @property
    def knob(self):
        return self.agent._core.free_knobs["temperature"]


@pytest.fixture
def cut(begin, daemon, monkeypatch):
    """A run in which the knob was moved, and its next process, which goes on from the checkpoint after that."""

    def ended(script, *actions):
        d = daemon(script.agent)
        for action in actions:
            order = d.order(action)
            script.turn()
            assert d.outcome(order).status == "applied"
        order = d.order(TakeCheckpoint())
        script.turn()
        path = d.outcome(order).detail["path"]
        script.agent.close()
        monkeypatch.setenv("SITTER_RUN", str(Path(path).parent.parent))
        monkeypatch.setenv("SITTER_RESUME", path)
        return begin()

    def runs(*actions, **kwargs):
        return ended(Script(begin(), **kwargs), *actions)

    runs.on = ended
    return runs


HALF = SetKnob(knob="temperature", op="scale", amount=0.5)


def said(agent, capsys):
    """About the knob: the same on stderr and in the logbook, once each."""
    lines = [line.removeprefix("sitter: ") for line in capsys.readouterr().err.splitlines() if "knob temperature" in line]
    assert lines == [e.text for e in Run(agent.run).events(Remark) if "knob temperature" in e.text]
    return lines


@pytest.mark.parametrize("in_state", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_scale_goes_on_once_whether_the_state_held_the_value_or_not(cut, capsys, in_state, first):
    agent = cut(HALF, in_state=in_state)
    script = Script(agent, in_state=in_state, first=first)
    assert (script.value, script.knob.scale, script.knob.scheduled()) == (pytest.approx(0.4), 0.5, pytest.approx(0.8))
    assert said(agent, capsys) == ["knob temperature: scale 0.5 of the run goes on (0.8 → 0.4)"]
    change = Run(agent.run).events(KnobChanged)[-1]
    assert (change.scale, change.new, change.by) == (0.5, pytest.approx(0.4), "resume"), "what the status shows it by"
    script.turn(5)
    assert (script.value, script.knob.scale) == (pytest.approx(0.4), 0.5)


def test_it_outlives_a_second_restart_also_where_the_process_between_never_declared_the_knob(cut, capsys):
    agent = cut.on(Script(cut(HALF), knob=False))
    capsys.readouterr()
    script = Script(agent)
    assert (script.value, script.knob.scale) == (pytest.approx(0.4), 0.5)
    assert "knob temperature: scale 0.5 of the run goes on (0.8 → 0.4)" in capsys.readouterr().err


def test_a_held_value_is_held_again(cut, capsys):
    agent = cut(SetKnob(knob="temperature", op="value", amount=0.2, hold=True))
    script = Script(agent, value=3.0)
    assert (script.value, script.knob.held) == (0.2, True)
    script.value = 3.0
    script.turn()
    assert script.value == 0.2
    assert said(agent, capsys) == ["knob temperature: it is still held at 0.2"]


def test_another_value_that_the_script_has_set_itself_stands_and_that_is_said(cut, capsys):
    agent = cut(HALF)
    script = Script(agent, value=0.3)
    assert (script.value, script.knob.scale) == (0.3, 1.0)
    assert said(agent, capsys) == ["knob temperature: the script begins with 0.3, which stands: scale 0.5 of the run was on 0.8"]
    assert [e.by for e in Run(agent.run).events(KnobChanged) if e.by == "resume"] == []


def test_a_knob_that_nobody_moved_is_not_spoken_of(cut, capsys):
    agent = cut()
    assert Script(agent, value=0.3).value == 0.3
    assert said(agent, capsys) == []


def test_bounds_that_are_narrower_now_are_kept_and_that_is_said(cut, capsys):
    agent = cut(HALF)
    value = [0.8]
    agent.state(save=lambda: {"w": 1.0}, load=lambda state: None)
    agent.knob("temperature", get=lambda: value[0], set=lambda v: value.__setitem__(0, v), low=0.5, high=1.0)
    assert value == [0.8]
    (line,) = said(agent, capsys)
    assert line.startswith("knob temperature: what the run had set is not put back (ValueError: temperature = 0.4 is out of its bounds")


def test_a_run_that_could_not_go_on_takes_up_no_knobs(cut, capsys):
    agent = cut(HALF)
    path = Path(os.environ["SITTER_RESUME"])
    path.write_bytes(path.read_bytes()[:-100])
    script = Script(agent)
    assert (script.value, script.knob.scale) == (0.8, 1.0)
    assert "could NOT go on" in capsys.readouterr().err


@pytest.mark.parametrize(("scale", "amount", "value"), [("log1m", 2.0, 0.9), ("pow2", 0.5, 64.0), ("linear", 3.0, 2.0)])
def test_every_kind_of_scale_is_taken_up_from_either_value(scale, amount, value):
    box = [value]

    def knob():
        return FreeKnob("k", lambda: box[0], lambda v: box.__setitem__(0, v), 0.5, 0.99 if scale == "log1m" else 1000.0, scale)

    before = knob()
    _, new = before.change("scale", amount, group=None, hold=False)
    settings = before.settings()
    for begins in (value, new):
        box[0] = begins
        after = knob()
        assert "goes on" in after.take_up(settings)
        assert (box[0], after.scale) == (pytest.approx(new), pytest.approx(before.scale))
        assert after.scheduled() == pytest.approx(value)
