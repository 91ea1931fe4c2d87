"""What a new daemon knows of the time before it, and what it does not."""

import contextlib
import dataclasses
import math
import os
import queue
import time

import msgspec
import pytest

from sitter.clock import SystemClock
from sitter.control import recall
from sitter.control.demands import Reach
from sitter.control.succession import Succession
from sitter.model import Answered, Finding
from sitter.store.reader import Reader
from sitter_wire.commands import Outcome, Pause, Rollback
from sitter_wire.events import (
    CheckpointFailed,
    CheckpointWritten,
    Done,
    GoodBye,
    Paused,
    Preempted,
    Remark,
    Restored,
    SessionStart,
    SnapshotTaken,
)
from sitter_wire.messages import Pong
from sitter_wire.queries import Act, AddNote, Approve, SetMode, Snooze, StopNow, Veto
from sitter_wire.records import Happening, Point
from tests.unit.sitter.control.conftest import opened


@pytest.fixture
def daemons(run):
    """``begin()`` makes the core of the next daemon of one run, on what the one before it has committed."""
    told: list[tuple[str, str, str]] = []
    present = contextlib.ExitStack()

    def begin():
        present.close()
        core = present.enter_context(opened(run, notify=lambda *words: told.append(words)))
        core.told = told
        core.life.pid = 1
        core.life.look = lambda: None
        return core

    with present:
        yield begin


def point(seq, step, branch=0, **values):
    return Point(seq, step, branch, time.monotonic_ns(), tuple(values), tuple(values.values()))


def event(seq, step, what, branch=0):
    return Happening(seq, step, branch, time.monotonic_ns(), what)


def begun(core, *records, **more):
    core.flow.session("s", (time.time_ns(), time.monotonic_ns()))
    core.flow.records("s", core.intake.take_read("s", [event(1, 0, SessionStart(pid=1, host="h", branch=0, **more)), *records]))
    return core


def trouble(rule="guard", **more):
    return Finding(rule=rule, severity="critical", step=5, branch=0, onset=4, text="it is bad", key=f"{rule}:0:4", **more)


def demands(core):
    """What clients may ask of this core."""
    return core.demands(
        Reach(
            read=None, when_safe=core.writer.when_safe, log=core.log_entry, rules=core.rule_states, stop=None, stop_now=None,
            rollback_sent=core.rollback_sent, unanswered=core.unanswered, test_notify=None,
        )
    )  # fmt: skip


def logbook(core):
    """What is committed."""
    with contextlib.closing(Reader(core.run.history)) as reader:
        return reader.logbook()


def outcomes(core):
    core.writer.flush()
    return [(e.status, e.action, e.rule) for e in logbook(core) if e.kind == "outcome"]


def test_the_outcome_of_what_a_daemon_that_died_had_sent_is_told_with_its_action_and_its_rule(daemons):
    core = begun(daemons(), point(2, 5, loss=2.0))
    core.act(trouble(actions=[Rollback()]), "rule:guard")
    (order,) = core.orders.standing()
    core = daemons()
    applied = Outcome(id=order.command.id, status="applied", step=5, branch=0, text="back at step 1")
    core.flow.records("s", core.intake.take_read("s", [event(3, 5, Done(outcome=applied))]))
    assert outcomes(core) == [("applied", "rollback", "guard")]
    assert [name for name, text, _ in core.told if "back at step 1" in text] == ["guard_acted"]


def test_until_the_branch_event_a_restore_that_an_earlier_daemon_sent_keeps_the_guard_from_another(daemons):
    core = begun(daemons(), point(2, 5, loss=2.0))
    core.act(trouble(actions=[Rollback()]), "rule:guard")
    records = [point(3 + step, 6 + step, loss=2.0 + 0.1 * (step % 3) + (1e6 if step >= 80 else 0.0)) for step in range(90)]
    core = daemons()
    core.flow.records("s", records)
    assert len(core.orders.standing(Rollback)) == 1
    core.flow.records("s", [event(93, 5, Restored(branch=1, from_branch=0, step=5, left=95, source="snapshot"), branch=1)])
    assert not daemons().engine._restoring  # the outcome's record is not here yet, but the branch is


def test_what_is_stored_of_an_outcome_but_not_told_the_next_daemon_tells(daemons):
    core = begun(daemons())
    core.act(trouble(actions=[Pause()]), "operator")
    (order,) = core.orders.standing()
    stored = Outcome(id=order.command.id, status="applied", step=5, branch=0, text="paused")
    core.writer.records("s", [event(2, 5, Done(outcome=stored))])  # killed before the record went any further
    assert outcomes(daemons()) == [("applied", "pause", None)]
    assert outcomes(daemons()) == [("applied", "pause", None)]


def test_what_the_dead_daemon_had_sent_to_a_process_that_died_too_has_expired(daemons):
    core = begun(daemons())
    core.act(trouble(actions=[Pause()]), "operator")
    core = daemons()
    core.read_files(live="s")
    assert outcomes(core) == []
    core.read_files()
    assert outcomes(core) == [("expired", "pause", None)]
    daemons().read_files()
    assert outcomes(core) == [("expired", "pause", None)]


def checkpoint(seq, step, branch=0):
    path = f"checkpoints/{step}-{branch}.pt"
    written = CheckpointWritten(branch=branch, step=step, path=path, bytes=9, verified=True, cleared=True, sha256="")
    return event(seq, step, written, branch)


def best(core):
    core._good.look()
    return [c.step for c in core.present.checkpoints.values() if c.best]


def test_the_best_checkpoint_is_the_best_good_one_of_the_present_line(daemons):
    core = daemons()
    core._good._healthy_steps = 3
    values = {5: 3.0, 10: 1.0, 15: 2.0, 20: 0.5}
    records, seq = [], 2
    for step in range(1, 22):
        records.append(point(seq, step, loss=2.0 + 0.01 * (step % 3), **({"val_loss": values[step]} if step in values else {})))
        seq += 1
        if step in values:
            records.append(checkpoint(seq, step))
            seq += 1
    begun(core, *records, goal="val_loss", better="lower")
    assert best(core) == [10]  # that at step 20 is not good yet
    core.flow.records("s", [event(seq, 7, Restored(branch=1, from_branch=0, step=7, left=21, source="snapshot"), branch=1)])
    assert best(core) == [5]
    core = daemons()
    assert [c.step for c in core.present.checkpoints.values() if c.best] == [5]
    assert best(core) == [5]


def test_one_finding_counts_once_whatever_comes_of_it(daemons):
    core = begun(daemons(), point(2, 1, loss=2.0))
    core.dispatcher.snooze("guard", 60.0)
    core.flow.finding(trouble(actions=[Rollback()]))
    core.writer.flush()
    assert [e.status for e in logbook(core) if e.kind == "finding"] == ["critical", "snoozed"]
    assert next(r.findings for r in core.rule_states() if r.name == "guard") == 1


def test_the_best_of_the_goal_is_known_also_where_it_lies_far_back(daemons, monkeypatch):
    monkeypatch.setattr(recall, "WARM_UP_POINTS", 500)
    records = [point(2, 1, val_loss=1.0), point(3, 2, val_loss=3.0)]
    records += [point(4 + i, 3 + i, loss=2.0) for i in range(600)]
    core = begun(daemons(), *records, goal="val_loss", better="lower")
    assert core.board.status().goal.best == 1.0
    again = daemons().board.status().goal
    assert (again.best, again.best_step) == (1.0, 1)


def test_the_best_of_a_branch_that_was_left_does_not_count(daemons):
    begun(
        daemons(), point(2, 5, val_loss=2.0), point(3, 10, val_loss=1.0),
        event(4, 6, Restored(branch=1, from_branch=0, step=6, left=10, source="snapshot"), branch=1), point(5, 8, 1, val_loss=2.5),
        goal="val_loss", better="lower",
    )  # fmt: skip
    assert daemons().board.status().goal.best == 2.0


def test_an_incident_that_no_rule_remembers_does_not_stay_open_for_ever(daemons):
    core = begun(daemons(), point(2, 1, loss=2.0))
    core.flow.finding(trouble("disk_full"))
    assert core.incidents.open
    assert daemons().incidents.open == []
    daemons()
    assert [(e.rule, e.status) for e in logbook(core) if e.kind == "incident"] == [("disk_full", "open"), ("disk_full", "over")]


def test_an_incident_of_the_guard_ends_with_its_process(daemons):
    core = begun(daemons(), point(2, 1, loss=2.0))
    core.flow.finding(trouble())
    core.flow.session("next", (time.time_ns(), time.monotonic_ns()))
    core.flow.records("next", [event(1, 0, SessionStart(pid=2, host="h", branch=1))])
    assert core.incidents.open == []


def test_a_rollback_of_the_operators_that_nobody_answers_does_not_blind_the_guard(daemons):
    core, answers = begun(daemons()), []
    demands(core)(Act(action=Rollback()), answers.append)
    (standing,) = core.orders.standing()
    standing.done[0](None)
    assert [answer.status for answer in answers] == ["unanswered"]
    records = [point(2 + step, step, loss=2.0 + 0.1 * (step % 3) + (1e6 if step >= 80 else 0.0)) for step in range(90)]
    core.flow.records("s", records)
    assert core.incidents.open
    core.writer.flush()
    assert [e.status for e in logbook(core) if e.kind == "outcome"] == ["unanswered"]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (Snooze(rule="gpu_hot", seconds=3600.0), "gpu_hot proposes nothing for 1 h"),
        (SetMode(mode="watch"), "mode watch"),
        (AddNote(text="gone to bed"), "gone to bed"),
        (Approve(id="p1"), "by the operator"),
        (Veto(id="p1"), "by the operator"),
    ],
)
def test_what_the_operator_was_answered_is_on_disk_by_then(daemons, word, told):
    core = begun(daemons(), point(2, 1, loss=2.0))
    core.writer.leisure(True)
    core.dispatcher.settings["guard"] = msgspec.structs.replace(core.dispatcher.settings["guard"], mode="ask")
    core.flow.finding(trouble(actions=[Rollback()]))
    answered = queue.SimpleQueue()
    demands(core)(word, lambda answer: answered.put((answer, [line.detail for line in logbook(core)])))  # as a SIGKILL now would leave it
    answer, lines = answered.get(timeout=60)
    assert answer.status == "applied"
    assert any(told in line for line in lines)


def test_what_is_approved_when_the_training_runs_no_more_is_not_said_to_be_on_its_way(daemons):
    core, answers = begun(daemons(), point(2, 1, loss=2.0)), []
    core.dispatcher.settings["guard"] = msgspec.structs.replace(core.dispatcher.settings["guard"], mode="ask")
    core.flow.finding(trouble(actions=[Rollback()]))
    core.life.pid = None
    demands(core)(Approve(id="p1"), answers.append)
    assert [answer.status for answer in answers] == ["rejected"]
    assert answers[0].text == "nothing to act on: the training does not run (starting); p1 stays open"
    assert list(core.dispatcher.proposals) == ["p1"]
    core.life.pid, core.present.session = os.getpid(), None
    core.life.look = lambda: None  # which would see that no such process holds the run
    demands(core)(Approve(id="p1"), answers.append)
    assert answers[1].text == "nothing to act on: the training has not called start yet; p1 stays open", "it imports"


@pytest.mark.parametrize("status", ["applied", "rejected"])
def test_people_are_told_what_became_of_it_not_what_was_sent(daemons, status):
    core = begun(daemons())
    core.act(trouble(actions=[Rollback()]), "rule:guard")
    assert core.told == []
    (standing,) = core.orders.standing()
    core.flow.outcome(Outcome(id=standing.command.id, status=status, step=5, branch=0, text="so it was"))
    ((name, text, _),) = core.told
    assert name == "guard_acted"
    assert f"{status}: so it was" in text


def test_what_was_proposed_goes_with_the_state_it_was_for(daemons):
    core = begun(daemons(), point(2, 1, loss=2.0))
    core.dispatcher.settings["guard"] = msgspec.structs.replace(core.dispatcher.settings["guard"], mode="ask")
    core.flow.finding(trouble(actions=[Rollback()]))
    assert core.dispatcher.proposals
    core.flow.records("s", [event(3, 1, Restored(branch=1, from_branch=0, step=1, left=5, source="snapshot"), branch=1)])
    assert not core.dispatcher.proposals
    core.flow.finding(trouble(actions=[Rollback()]))
    core.flow.session("next", (time.time_ns(), time.monotonic_ns()))
    core.flow.records("next", [event(1, 0, SessionStart(pid=2, host="h", branch=2))])
    assert not core.dispatcher.proposals


def test_a_delay_is_not_over_before_the_present_is_known(daemons):
    core = begun(daemons(), point(2, 1, loss=2.0))
    core.dispatcher.settings["gpu_hot"] = msgspec.structs.replace(core.dispatcher.settings["gpu_hot"], mode="act", delay=0.001)
    core.present.pong = Pong(session="s", pid=1, n=1, step=1, micro=1, branch=0, safe_point_at=None, written=100, dropped=0)
    core.dispatcher.finding(trouble("gpu_hot", actions=[Pause()]))
    time.sleep(0.002)
    core.tick()
    assert core.dispatcher.proposals
    core.present.pong = msgspec.structs.replace(core.present.pong, written=2)
    core.tick()
    assert not core.dispatcher.proposals
    assert core.orders.standing(Pause)


def test_a_proposal_that_is_not_understood_keeps_no_daemon_from_starting(daemons):
    core = begun(daemons(), point(2, 1, loss=2.0))
    understood = {"id": "p2", "finding": trouble("gpu_hot"), "made": 1.0, "due": None}
    core.keep("proposals", [{"id": "p1", "finding": "of another version"}, understood])
    assert list(daemons().dispatcher.proposals) == ["p2"]


def test_a_checkpoint_at_which_the_goal_was_not_a_number_is_not_the_best(daemons):
    core = daemons()
    core._good._healthy_steps = 3
    records = [point(2, 4, val_loss=math.nan), checkpoint(3, 5), *(point(i, i + 2, loss=2.0) for i in range(4, 14))]
    records += [point(14, 17, val_loss=2.0), checkpoint(15, 18), *(point(i, i + 3, loss=2.0) for i in range(16, 30))]
    begun(core, *records, goal="val_loss", better="lower")
    assert best(core) == [18]
    assert all(c.good for c in core.present.checkpoints.values())
    assert best(daemons()) == [18]


def test_snapshots_of_weeks_are_not_read_again(daemons, monkeypatch):
    monkeypatch.setattr(recall, "WARM_UP_POINTS", 500)

    def taken(seq, step):
        return event(seq, step, SnapshotTaken(slot=0, branch=0, step=step, bytes=1, seconds=0.0))

    records = [taken(2 + i, 1) for i in range(50)] + [point(52 + i, 2 + i, loss=2.0) for i in range(recall.WARM_UP_POINTS)]
    last = records[-1]
    begun(daemons(), *records, taken(last.seq + 1, last.step), goal="val_loss", better="lower")
    with contextlib.closing(Reader(daemons().run.history)) as reader:
        told = [item.event for item in recall.past(reader, "s") if isinstance(item, Happening)]
    assert [type(e) for e in told] == [SessionStart, SnapshotTaken]


@pytest.mark.parametrize(("living", "told"), [("s", 1), ("another", 0)])
def test_only_of_a_training_that_did_go_on_is_it_said_that_it_did(daemons, living, told):
    """A reboot, or the out-of-memory killer, ends daemon and training; what is started then is another."""
    core = begun(daemons())
    core.run.agent_lock.write_text('{"session": "s"}')
    with contextlib.closing(Reader(core.run.history)) as reader:
        before = Succession(core, reader, SystemClock(), 17)
        before.begin()
        before.tick()
    core = daemons()
    core.run.agent_lock.write_text(f'{{"session": "{living}"}}')
    with contextlib.closing(Reader(core.run.history)) as reader:
        Succession(core, reader, SystemClock(), 18).begin()
    assert len([name for name, text, _ in core.told if name == "daemon_gone" and "the training went on" in text]) == told


def test_what_a_training_said_while_nobody_was_there_stands_under_its_own_time(daemons):
    core, hour = begun(daemons()), 3600.0
    said = [
        Remark(level="warning", text="a word"), Paused(paused=True, why="asked"), Preempted(signal="SIGTERM", text="received"),
        CheckpointFailed(branch=0, step=1, why="no room"), GoodBye(how="left early"),
        Done(outcome=Outcome(id="a", status="applied", step=1, branch=0, text="done")),
    ]  # fmt: skip
    then = time.monotonic_ns() - int(hour * 1e9)
    core.flow.records("s", [Happening(2 + i, 1, 0, then, what) for i, what in enumerate(said)], past=True)
    core.flow.records("s", [event(9, 2, Remark(level="info", text="and now"))])
    core.writer.flush()
    *old, new = [time.time() - line.time for line in logbook(core) if line.step]
    assert len(old) == len(said)
    assert all(abs(age - hour) < hour / 10 for age in old)
    assert new < hour / 10


def test_an_order_that_is_to_wait_for_no_number_of_seconds_does_not_stand_for_ever(daemons):
    core = begun(daemons())
    demands(core)(Act(action=Pause(), wait=math.nan), lambda answer: None)
    (standing,) = core.orders.standing(Pause)
    assert standing.command.deadline - time.monotonic() < 1.0


@pytest.mark.parametrize("status", ["applied", "rejected"])
def test_what_became_of_a_stop_at_once_stands_in_the_logbook(daemons, status):
    core, answers = begun(daemons()), []
    asked = demands(core)
    asked._reach = dataclasses.replace(asked._reach, stop_now=lambda told: told(Answered(status=status, text="so it was")))
    asked(StopNow(), answers.append)
    assert [answer.status for answer in answers] == [status]
    assert outcomes(core) == [(status, "stop --now", None)]
