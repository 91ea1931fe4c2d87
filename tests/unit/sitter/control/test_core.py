"""What the rules see beside a value is as new as the value."""

import math
import time
from typing import Any

import msgspec
import pytest

from sitter.control.present import Present
from sitter.locks import take
from sitter.model import Finding
from sitter.rules.view import Sample
from sitter_wire.commands import Rollback
from sitter_wire.events import KnobChanged, KnobDeclared, KnobSpec, LoopStart, SessionStart
from sitter_wire.messages import Pong
from sitter_wire.records import Happening, Point
from tests.unit.sitter.control.conftest import opened


@pytest.fixture
def core(run):
    with opened(run) as made:
        made.flow.session("s", (time.time_ns(), time.monotonic_ns()))
        yield made


class Records:
    """Numbers them, and gives them the time of now."""

    def __init__(self) -> None:
        self.seq = 0

    def event(self, event, step=0):
        self.seq += 1
        return Happening(self.seq, step, 0, time.monotonic_ns(), event)

    def point(self, step, **values):
        self.seq += 1
        return Point(self.seq, step, 0, time.monotonic_ns(), tuple(values), tuple(values.values()))


def start(**more):
    return SessionStart(pid=1, host="h", branch=0, **more)


def test_knobs_and_the_kind_of_training_are_known_before_the_first_second_is_over(core):
    made = Records()
    lr = KnobSpec(name="lr", low=1e-8, high=10.0, scale="log")
    core.flow.records("s", [made.event(start(kind="rl")), made.event(KnobDeclared(spec=lr))])
    assert core.view.kind == "rl"
    assert core.view.scales == {"lr": 1.0}
    core.flow.records("s", [made.event(KnobChanged(knob="lr", old=1.0, new=0.5, scale=0.5))])
    assert core.view.scales == {"lr": 0.5}


def test_a_rate_that_was_set_long_ago_is_not_what_the_next_daemon_shows():
    present = Present()
    present.happening(Happening(1, 0, 0, 1, KnobDeclared(spec=KnobSpec(name="lr", low=1e-8, high=10.0, scale="log"))))
    present.happening(Happening(2, 900, 0, 2, KnobChanged(knob="lr", old=1e-3, new=2e-3, scale=2.0)))
    present.recall(Sample(step=9000, branch=0, time=3.0, values={"lr": 2e-6, "lr_scheduled": 1e-6}))
    shown = present.knobs()["lr"]
    assert (shown.scheduled, shown.scale, shown.effective) == (1e-6, 2.0, 2e-6)


@pytest.mark.parametrize(("last", "more"), [(1512, ", which had come to step 1,512"), (740, "")])
def test_a_process_that_goes_on_from_a_checkpoint_is_told_with_what_that_leaves_behind(core, monkeypatch, last, more):
    """After a power cut nobody has written down how far the one before had come, or that there was one."""
    made, told = Records(), []
    monkeypatch.setattr(core.flow, "_log", lambda kind, **line: told.append(line["detail"]))
    core.flow.records("s", [made.event(start()), made.point(last, loss=2.0)])
    again = SessionStart(pid=2, host="h", branch=1, resumed=(0, 740))
    core.flow.records("t", [Happening(1, 740, 1, time.monotonic_ns(), again)])
    assert told[-1] == f"process 2 on h, goes on from step 740 of branch 0{more}"


def test_a_knob_that_is_told_now_and_then_stands_at_what_was_said_last(core):
    made = Records()
    specs = [KnobSpec(name="weight_decay", low=1e-3, high=0.3, scale="log"), KnobSpec(name="beta2", low=0.5, high=0.9999, scale="log1m")]
    core.flow.records("s", [made.event(start()), *(made.event(KnobDeclared(spec=spec)) for spec in specs)])

    def shown(name):
        now = core.board.status().knobs[name]
        return now.scheduled, now.scale, now.effective

    assert shown("weight_decay") == (None, 1.0, None)
    core.flow.records("s", [made.point(0, weight_decay=0.01, beta2=0.99)])
    assert shown("weight_decay") == (0.01, 1.0, 0.01)
    change = [KnobChanged(knob="weight_decay", old=0.01, new=0.02, scale=2.0), KnobChanged(knob="beta2", old=0.99, new=0.98, scale=2.0)]
    core.flow.records("s", [made.event(event) for event in change])
    assert shown("weight_decay") == (0.01, 2.0, 0.02), "at once, also where a pause follows and nothing is told"
    assert shown("beta2") == (pytest.approx(0.99), 2.0, 0.98), "the scale is on 1 - value"
    core.flow.records("s", [made.point(1, weight_decay=0.04)])
    assert shown("weight_decay") == (0.02, 2.0, 0.04)
    core.flow.records("s", [made.event(KnobChanged(knob="weight_decay", old=0.04, new=0.03, scale=2.0, held=True))])
    assert shown("weight_decay") == (None, 2.0, 0.03), "what the script asks for meanwhile is not known"


def test_a_rate_times_100_in_the_first_second_is_divided_out(core):
    made, found = Records(), []
    keep = core.flow.finding

    def listen(finding: Finding, *, late: bool = False) -> None:
        found.append(finding)
        keep(finding, late=late)

    core.flow.finding = listen
    lr = KnobSpec(name="lr", low=1e-8, high=10.0, scale="log")
    records = [made.event(start()), made.event(KnobDeclared(spec=lr))]
    for step in range(90):
        rate = 0.1 if step >= 80 else 1e-3
        records.append(made.point(step, loss=2.0 + 0.1 * (step % 3) + (60.0 if step > 82 else 0.0)))
        records.append(made.point(step, lr=rate, lr_scheduled=rate))
    core.flow.records("s", records)
    (action,) = [a for f in found for a in f.actions if isinstance(a, Rollback)]
    assert action.also_scale == {"lr": pytest.approx(0.01)}


def blown_up(made: Records) -> list[Any]:
    return [made.event(start()), *(made.point(step, loss=2.0 + 0.1 * (step % 3) + (1e6 if step >= 80 else 0.0)) for step in range(90))]


@pytest.mark.parametrize(("preset", "verdict"), [("guard", "HEALING"), ("watch", "NEEDS YOU")])
def test_a_trouble_that_nobody_does_anything_about_needs_somebody(core, preset, verdict):
    core.dispatcher.set_preset(preset)
    core.life.state = lambda: "running"
    core.flow.records("s", blown_up(Records()))
    status = core.board.status()
    assert status.incidents.open == 1
    assert status.verdict == verdict
    assert bool([w for w in status.warnings if "nothing is done about this: loss" in w]) == (preset == "watch")


def test_a_vetoed_way_out_is_no_healing(core):
    core.dispatcher.settings["guard"] = msgspec.structs.replace(core.dispatcher.settings["guard"], mode="ask")
    core.life.state = lambda: "running"
    core.flow.records("s", blown_up(Records()))
    (proposal,) = core.board.status().proposals
    assert core.board.status().verdict == "NEEDS YOU"
    core.dispatcher.veto(proposal.id)
    assert core.board.status().verdict == "NEEDS YOU"
    assert core.board.status().warnings


def test_when_the_run_began_and_its_epochs_are_known_while_it_runs(core):
    made = Records()
    core.flow.records("s", [made.event(start()), made.event(LoopStart(total=100, epochs=4, step=25)), made.point(50, loss=1.0)])
    status = core.board.status()
    assert status.epoch == pytest.approx(2.0)
    assert status.started == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize(("loss", "verdict"), [(1.0, "OK"), (math.nan, "NEEDS YOU")])
def test_a_run_that_finished_without_a_finite_loss_is_not_called_well(core, loss, verdict):
    made = Records()
    core.life.state = lambda: "finished"
    core.flow.records("s", [made.event(start()), made.point(0, loss=2.0), made.point(1, loss=loss)])
    assert core.board.status().verdict == verdict


def test_a_process_that_was_started_again_is_not_as_old_as_the_last_safe_point_of_the_one_before(core):
    now = time.monotonic()
    core.flow.records("s", [Records().event(start())])
    core.present.pinged(Pong(session="s", pid=1, n=1, step=9, micro=9, branch=0, safe_point_at=now - 4000.0, written=1, dropped=0), now)
    core.flow.session("next", (time.time_ns(), time.monotonic_ns()))
    core.present.pinged(Pong(session="next", pid=2, n=1, step=9, micro=9, branch=1, safe_point_at=None, written=1, dropped=0), now)
    core.tick()
    assert core.view.safe_point_age is None, "else its start is taken for a step that does not end, and ended where `do` says so"


def test_a_process_that_has_not_spoken_yet_is_as_old_as_itself(core):
    now = time.monotonic()
    core.flow.session("s", None).clock = (time.time() - 5000.0, now - 5000.0)
    core.flow.records("s", [Records().event(start())])
    core.present.pinged(Pong(session="s", pid=1, n=1, step=9, micro=9, branch=0, safe_point_at=now - 4000.0, written=1, dropped=0), now)
    with take(core.run.agent_lock):
        core.tick()
        assert (core.view.safe_point_age, core.view.agent_age) == (None, None), "an earlier process's"
        assert core.view.started >= now, "else its imports are taken for a step that does not end, and ended where `do` says so"
        core.present.pinged(
            Pong(session="s", pid=1, n=2, step=9, micro=9, branch=0, safe_point_at=now - 4000.0, written=1, dropped=0), time.monotonic()
        )
        core.tick()
        assert core.view.safe_point_age >= 4000.0, "it speaks: what it says is its own, whatever its number is seen from here"


def test_a_part_of_the_second_that_fails_takes_its_turn_from_none_of_the_others(core, monkeypatch):
    answered = []
    core.life.look = lambda: None
    monkeypatch.setattr(core.stillness, "look", lambda: 1 / 0)
    monkeypatch.setattr(core.engine, "tick", lambda now: 1 / 0)
    core.orders.give(Rollback(), session="s", by="operator", wait=-60.0, done=answered.append)
    core.tick()
    assert answered == [None]  # it can no longer start, and that was said


@pytest.mark.parametrize(("old", "verdict"), [(5.0, "OK"), (600.0, "NEEDS YOU")])
def test_a_training_that_has_not_logged_a_loss_calls_somebody_once_it_had_the_time_to(core, old, verdict):
    made = Records()
    core.life.state = lambda: "running"
    core.flow.records("s", [made.event(start()), made.point(0, lr=0.1, lr_scheduled=0.1)])
    core.present.session.clock = (core.clock.wall() + 86_400.0, core.clock.monotonic() - old)  # the wall clock was set meanwhile
    status = core.board.status()
    assert status.blind
    assert status.verdict == verdict
