"""Commands: once by id, in time, for this session and branch, at a safe point, answered truly."""

import math
import os
import signal
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sitter_agent.checkpoints import load
from sitter_wire.commands import Command, DropBatches, Pause, Rollback, SetKnob, Stop, TakeCheckpoint, Unpause
from sitter_wire.events import CheckpointWritten, Done, KnobChanged, Paused, Restored
from tests.unit.agent.conftest import Quadratic, Run, raises_at, until


@pytest.fixture
def training(begin, daemon):
    """An agent in the midst of its loop, its model, the daemon's side, and a function that does one more turn."""

    class Training:
        def __init__(self):
            self.agent = begin()
            self.d = daemon(self.agent)
            self.model = Quadratic().known_to(self.agent)
            self.turns = self.agent.loop([np.full(32, 0.5)], total=10**9)
            self.step, self.batch = next(self.turns)
            self.run = Run(self.agent.run)

        def turn(self, n=1):
            for _ in range(n):
                self.agent.log(loss=self.model.step(self.batch))
                self.step, self.batch = next(self.turns)

        def do(self, action, **other):
            order = self.d.order(action, **other)
            self.turn()
            return self.d.outcome(order)

    return Training()


def test_set_changes_the_knob_and_says_old_and_new(training):
    outcome = training.do(SetKnob(knob="lr", op="scale", amount=0.5))
    assert (outcome.status, outcome.text) == ("applied", "lr 0.1 → 0.05")
    assert outcome.detail == {"old": 0.1, "new": 0.05, "scale": 0.5, "held": False}
    assert training.model.lr == 0.05
    assert training.run.events(KnobChanged) == [KnobChanged(knob="lr", old=0.1, new=0.05, scale=0.5, by="operator")]
    assert training.run.events(Done)[0].outcome == outcome


def test_a_repeat_is_answered_again_and_not_done_again(training):
    first = training.do(SetKnob(knob="lr", op="scale", amount=0.5))
    command = Command(
        id=first.id,
        session=training.d.core.session,
        action=SetKnob(knob="lr", op="scale", amount=0.5),
        deadline=time.monotonic() + 60,
    )
    training.d.send(command)
    assert training.d.outcome(first.id) == first
    training.turn(3)
    assert training.model.lr == 0.05
    assert len(training.run.events(Done)) == 1


def test_a_repeat_that_comes_before_the_safe_point_is_done_once(training):
    order = training.d.order(SetKnob(knob="lr", op="scale", amount=0.5))
    command = Command(
        id=order,
        session=training.d.core.session,
        action=SetKnob(knob="lr", op="scale", amount=0.5),
        deadline=time.monotonic() + 60,
    )
    training.d.send(command)
    training.d.ping()
    training.turn(2)
    assert training.model.lr == 0.05


@pytest.mark.parametrize(
    ("other", "status", "text"),
    [
        ({"session": "another"}, "rejected", "meant for session another"),
        ({"branch": 7}, "rejected", "decided on branch 7"),
        ({"wait": -1.0}, "expired", "after its deadline"),
    ],
)
def test_what_is_not_for_here_and_now_is_not_done(training, other, status, text):
    outcome = training.do(SetKnob(knob="lr", op="scale", amount=0.5), **other)
    assert outcome.status == status
    assert text in outcome.text
    assert training.model.lr == 0.1


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (SetKnob(knob="lr", op="value", amount=20.0), "out of its bounds"),
        (SetKnob(knob="lr", op="scale", amount=math.nan), "not a number to train with"),
        (SetKnob(knob="beta2", op="scale", amount=0.5), "no knob beta2; known here: lr"),
        (SetKnob(knob="lr", op="scale", amount=0.5, expect=0.2), "lr is 0.1 now, not 0.2"),
        (SetKnob(knob="lr", op="scale", amount=0.5, group="head"), "has no groups"),
        (SetKnob(knob="lr", op="scale", amount=0.5, hold=True), "only a value can be held"),
        (DropBatches(count=0), "from 1 to"),
        (Unpause(), "not paused"),
        (Rollback(to=4711), "no state of step 4711: the nearest are"),
        (Rollback(unless_finite=True), "the logged value is at fault, not the model"),
        (Rollback(before=-1), "no cleared snapshot and no verified checkpoint at or before step -1"),
        (TakeCheckpoint(cleared=True), "no cleared snapshot yet"),
    ],
)
def test_refused_in_one_sentence_with_nothing_changed(training, action, text):
    before = training.model.w.copy(), training.model.lr
    order = training.d.order(action)
    next(training.turns)
    outcome = training.d.outcome(order)
    assert outcome.status == "rejected"
    assert text in outcome.text
    assert (training.model.w == before[0]).all()
    assert training.model.lr == before[1]


def test_a_held_value_is_pinned_against_the_script(training):
    assert training.do(SetKnob(knob="lr", op="value", amount=0.03, hold=True)).text == "lr 0.1 → 0.03, held"
    training.model.lr = 0.2
    training.turn()
    assert training.model.lr == 0.03


def test_a_cleared_snapshot_that_is_not_finite_is_passed_over_where_there_is_a_sound_one(training):
    training.turn(25)
    until(lambda: _turned(training) or len(training.d.core.ring.held) >= 3)
    first, second, *_ = held = training.d.core.ring.held
    training.d.clear(held[-1].step)
    for snapshot in held[2:]:
        snapshot.captured["w"][3] = math.nan  # taken while what was logged looked healthy
    assert training.do(Rollback(why="nan")).detail["step"] == second.step
    first.captured["w"][3] = math.inf  # all that is left: then the script means it
    assert training.do(Rollback(before=first.step)).detail["step"] == first.step


def test_rollback_goes_to_the_newest_cleared_snapshot_at_or_before(training):
    training.turn(25)
    until(lambda: _turned(training) or len(training.d.core.ring.held) >= 3)
    steps = [s.step for s in training.d.core.ring.held]
    training.d.clear(steps[1])
    model_then = training.d.core.ring.held[1].captured["w"].copy()
    training.model.w[...] = math.nan
    order = training.d.order(Rollback(why="nan"))
    next(training.turns)
    outcome = training.d.outcome(order)
    assert outcome.status == "applied"
    assert outcome.detail["step"] == steps[1]
    assert (training.model.w == model_then).all()
    assert [s.step for s in training.d.core.ring.held if s.branch == 0] == steps[:2]  # one of the new branch may be there already
    restored = training.run.events(Restored)[0]
    assert (restored.branch, restored.from_branch, restored.source) == (1, 0, "snapshot")
    assert training.agent.step == steps[1]


def _turned(training):
    training.turn()
    return False


def test_a_poisoned_snapshot_is_never_restored(training):
    """Ruined at once after a snapshot was cleared; many more are taken before the daemon's decision arrives."""
    until(lambda: _turned(training) or len(training.d.core.ring.held) >= 2)
    good = training.d.core.ring.held[-1].step
    training.d.clear(good)
    training.turn()
    training.model.w[...] = math.nan
    taken = len(training.run.events())
    until(lambda: _turned(training) or len(training.run.events()) > taken + 12)
    outcome = training.do(Rollback())
    assert outcome.detail["step"] == good
    assert np.isfinite(training.model.w).all()


def test_a_second_onset_on_the_abandoned_branch_does_not_clear_what_was_left(training):
    until(lambda: _turned(training) or len(training.d.core.ring.held) >= 3)
    first = training.d.core.ring.held[0].step
    training.d.clear(first)
    training.do(Rollback())
    training.d.clear(10_000, branch=0)
    until(lambda: _turned(training) or len(training.d.core.ring.held) >= 3)
    assert [s.step for s in training.d.core.ring.held if s.cleared] == [first]


def test_rollback_keeps_knobs_and_scales_what_is_asked(training):
    until(lambda: _turned(training) or len(training.d.core.ring.held) >= 2)
    training.d.clear(training.d.core.ring.held[-1].step)
    training.do(SetKnob(knob="lr", op="scale", amount=0.5))
    assert training.do(Rollback()).status == "applied"
    assert training.model.lr == pytest.approx(0.05), "an operator's change is not undone by a rollback"
    outcome = training.do(Rollback(also_scale={"lr": 0.3, "nothing": 2.0}))
    assert training.model.lr == pytest.approx(0.015)
    assert outcome.detail["lr_new"] == pytest.approx(0.015)
    assert "there is no knob nothing" in outcome.text


def test_somebodys_bug_in_the_rate_is_restored_with_the_state(training):
    until(lambda: _turned(training) or len(training.d.core.ring.held) >= 2)
    training.d.clear(training.d.core.ring.held[-1].step)
    training.model.lr *= 100
    training.do(Rollback())
    assert training.model.lr == 0.1


def test_on_restore_is_called_with_the_step_and_its_failure_is_told(training):
    called = []
    training.agent.on_restore(called.append)

    @training.agent.on_restore
    def broken(step):
        raise RuntimeError("no average")

    training.turn(30)
    outcome = training.do(Rollback(to=0))
    assert called == [0]
    assert outcome.status == "applied"
    assert "on_restore does (RuntimeError: no average)" in outcome.text


def test_a_load_that_fails_is_an_answer_and_the_training_goes_on(training):
    training.turn(3)
    training.d.core.generic._load = lambda state: 1 / 0
    outcome = training.do(Rollback(to=0))
    assert outcome.status == "rejected"
    assert "ZeroDivisionError" in outcome.text
    assert "the state may be mixed" in outcome.text
    training.turn(3)


def test_a_loader_that_cannot_be_begun_again_does_not_keep_the_state_from_coming_back(training):
    until(lambda: _turned(training) or len(training.d.core.ring.held) >= 2)
    step = training.d.core.ring.held[1].step

    class Broken(list):
        def __iter__(self):
            raise OSError("share gone")

    training.d.core.feed.loader = Broken()
    order = training.d.order(Rollback(to=step, replay=True))
    with pytest.raises(OSError, match="share gone"):
        training.turn()  # the next batch is asked of the loader by the loop itself: that failure is the script's
    outcome = training.d.outcome(order)
    assert outcome.status == "applied"
    assert "the loader failed when it was begun again (OSError: share gone)" in outcome.text
    assert training.model.steps == step


def test_what_is_held_when_the_training_ends_has_expired(training):
    order = training.d.order(SetKnob(knob="lr", op="scale", amount=0.5))
    training.agent.close()
    done = training.run.events(Done)[-1].outcome
    assert (done.id, done.status) == (order, "expired")
    assert training.model.lr == 0.1


def test_a_checkpoint_is_answered_once_it_is_there(training):
    training.turn(4)
    outcome = training.do(TakeCheckpoint(why="by hand"))
    assert outcome.status == "applied"
    written = training.run.events(CheckpointWritten)[0]
    assert (written.path, written.verified, written.cleared) == ("checkpoints/5-0.npz", True, False)
    state = np.load(training.run.dir.path / written.path)
    assert "w" in state.files
    assert outcome.detail["path"] == str(training.run.dir.path / written.path)


def test_what_was_set_between_two_checkpoints_of_one_step_is_in_the_second(training):
    training.turn(4)
    first, _, second = (
        training.d.order(action) for action in (TakeCheckpoint(), SetKnob(knob="lr", op="scale", amount=0.5), TakeCheckpoint())
    )
    next(training.turns)
    before, after = training.d.outcome(first), training.d.outcome(second)
    assert before.detail["path"] != after.detail["path"]
    _, meta = load(training.d.core.adapter, Path(after.detail["path"]))
    assert (meta["step"], meta["scales"]) == (5, {"lr": 0.5})


def test_two_checkpoints_of_one_step_are_one(training):
    training.turn(4)
    orders = [training.d.order(TakeCheckpoint()) for _ in range(2)]
    next(training.turns)
    first, second = (training.d.outcome(order) for order in orders)
    assert first.detail == second.detail
    assert Path(first.detail["path"]).is_file()


def test_rollback_to_a_checkpoint_once_the_snapshot_is_gone(training):
    training.turn(4)
    saved = training.model.w.copy()
    order = training.d.order(TakeCheckpoint())
    next(training.turns)
    training.d.outcome(order)
    training.turn(3)
    training.d.core.ring.held.clear()
    order = training.d.order(Rollback(to=5))
    next(training.turns)
    outcome = training.d.outcome(order)
    assert (outcome.status, outcome.detail["source"]) == ("applied", "checkpoint")
    assert (training.model.w == saved).all()


def test_pause_takes_commands_and_unpause_comes_first(training):
    training.d.order(Pause())
    done = []
    paused = threading.Event()

    def drive():
        until(lambda: training.d.core.progress.paused)
        training.d.order(SetKnob(knob="lr", op="scale", amount=0.5))
        until(lambda: training.model.lr == 0.05)
        done.append(training.d.core.progress.done)
        training.d.ping()
        paused.set()
        training.d.order(Unpause())

    thread = threading.Thread(target=drive)
    thread.start()
    training.turn()
    thread.join()
    assert paused.is_set()
    assert done == [1]
    assert [e.paused for e in training.run.events(Paused)] == [True, False]


def test_a_pause_gives_way_when_no_daemon_is_heard(training):
    training.d.core.pause_gives_way_s = 0.6
    training.d.order(Pause())
    training.d.close()
    began = time.monotonic()
    training.turn()
    assert time.monotonic() - began > 0.4
    assert "no daemon was heard" in training.run.events(Paused)[-1].why


@pytest.mark.parametrize("name", ["unpause", "stop"])
def test_a_held_pause_waits_on_and_looks_for_files(training, name):
    training.d.core.pause_gives_way_s = 0.6
    training.d.order(Pause(hold=True))
    training.d.close()
    file = training.run.dir.path / name
    held_through = []

    def later():
        until(lambda: training.d.core.progress.paused)
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 0.8)  # longer than a pause without hold would last here
        held_through.append(training.d.core.progress.paused)
        file.touch()

    thread = threading.Thread(target=later)
    thread.start()
    if name == "unpause":
        training.turn()
    else:
        with pytest.raises(StopIteration):
            training.turn()
    thread.join()
    assert held_through == [True]
    assert not file.exists()


def test_signals_pass_while_paused(training):
    training.d.order(Pause(hold=True))

    def later():
        until(lambda: training.d.core.progress.paused)
        os.kill(os.getpid(), signal.SIGUSR2)

    thread = threading.Thread(target=later)
    with raises_at(signal.SIGUSR2):
        thread.start()
        training.turn()
    thread.join()


def test_stop_with_a_checkpoint_says_where_it_is(training):
    training.turn(2)
    order = training.d.order(Stop(checkpoint=True, why="night"))
    assert list(training.turns) == []
    outcome = training.d.outcome(order)
    assert outcome.text == "stopped after step 3; checkpoint 3-0.npz written and read back"
    assert (training.run.dir.path / "checkpoints" / "3-0.npz").exists()


def test_two_stops_at_once_write_one_checkpoint(training):
    training.turn(2)
    training.d.order(Stop(checkpoint=False))
    one, other = (training.d.order(Stop(checkpoint=True)) for _ in range(2))
    assert list(training.turns) == []
    first, second = training.d.outcome(one), training.d.outcome(other)
    assert (first.status, first.text, first.detail) == (second.status, second.text, second.detail)
    assert first.text == "stopped after step 3; checkpoint 3-0.npz written and read back"
    assert [event.step for event in training.run.events(CheckpointWritten)] == [3]


def test_every_action_of_the_wire_has_a_hand(training):
    from sitter_wire.commands import Action, DumpStacks

    known = set(training.agent._host.commands._do) | {DumpStacks}
    assert known == {kind for kind in Action.__subclasses__() if isinstance(kind, type(msgspec.Struct))}


def test_what_is_meant_for_a_step_waits_for_its_safe_point_and_lets_others_pass(training):
    first = training.do(SetKnob(knob="lr", op="scale", amount=1.0))
    later = training.d.order(SetKnob(knob="lr", op="scale", amount=0.5), at=first.step + 5)
    assert training.do(SetKnob(knob="lr", op="value", amount=0.2)).step < first.step + 5
    training.turn(10)
    outcome = training.d.outcome(later)
    assert (outcome.status, outcome.step, outcome.detail["new"]) == ("applied", first.step + 5, 0.1)


def test_what_is_meant_for_a_step_of_a_branch_that_was_left_is_refused(training):
    training.turn(5)
    training.d.clear(training.d.core.ring.held[-1].step)
    later = training.d.order(SetKnob(knob="lr", op="scale", amount=0.5), at=10_000, branch=0)
    assert training.do(Rollback()).status == "applied"
    training.turn(2)
    assert training.d.outcome(later).status == "rejected"
    assert training.model.lr == 0.1
