"""What follows a rule's change of the rate: a real core and its rules, beside an agent that knows one knob."""

import math
import os
import queue
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from sitter.config import load, parse
from sitter.control.core import Core
from sitter.control.demands import Reach
from sitter.control.ruleset.build import build
from sitter.control.ruleset.own_actions import own_actions
from sitter.control.verdicts import NO_CLAIM, POINTS
from sitter.errors import ConfigError
from sitter.paths import look
from sitter.report.interventions import interventions
from sitter.rules.own.rule import Own, OwnParams, make
from sitter.rules.view import RunView, Sample
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter.testing.manual_clock import ManualClock
from sitter_wire import queries, rundir
from sitter_wire.commands import Command, Outcome, SetKnob
from sitter_wire.events import Done, KnobChanged, KnobDeclared, KnobSpec, Restored, SessionStart
from sitter_wire.records import Happening, Point

CUT = '[rules.cut]\nwhen = "bad > 0"\nfor = "10 points"\ndo = "lr=0.5x"\nmode = "act"\n'
WARM = CUT + 'warmup = "200 steps"\n'
BACK = CUT + 'back_after = "300 steps"\n'


class Clock(ManualClock):
    """20 steps a second, however busy the machine."""

    def ns(self) -> int:
        return int(self.monotonic() * 1e9)


class World:
    """A run's core with a real history, and an agent of which only the rate is real: it carries out what is due at each step."""

    def __init__(self, place: Path, text: str = "") -> None:
        os.chdir(place)
        self.clock = Clock()
        self.run = rundir.create(place, "t", command=["x"], supervised=False, sockets="", version="0")
        self.run.sitter_toml.write_text(text)
        self.seq = self.step = self.branch = 0
        self.session = "s"
        self.posted: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.arrived: set[str] = set()
        self.rate, self.scale, self.low, self.high = 0.1, 1.0, 1e-6, 10.0
        self.rates: list[tuple[int, float]] = []
        self.inbox: list[Command] = []
        self.speaks = True
        self.begin()
        self.take(SessionStart(pid=1, host="h", branch=0))
        self.take(KnobDeclared(spec=KnobSpec(name="lr", low=self.low, high=self.high, scale="log")))

    def begin(self) -> None:
        """A daemon's core."""
        self.writer = Writer(self.run.history, on_commit=lambda _: None, clock=self.clock)
        self.writer.start()
        self.reader = Reader(self.run.history)
        self.core = Core(
            run=self.run, info=look(self.run).info, config=load(self.run.sitter_toml), preset="guard", clock=self.clock,
            writer=self.writer, reader=self.reader, send=self.arrives, notify=lambda *_: None, on_gone=lambda: None,
            post=self.posted.put,
        )  # fmt: skip
        self.core.life.pid = 1
        self.core.life.look = lambda: None
        self.core.flow.session(self.session, (self.clock.ns(), self.clock.ns()))

    def end(self) -> None:
        self.writer.flush()
        self.writer.close()
        self.reader.close()

    def arrives(self, command: Command) -> bool:
        self.arrived.add(command.id)
        if command.id not in {c.id for c in self.inbox} and isinstance(command.action, SetKnob):
            self.inbox.append(command)
        return True

    def take(self, *events: object) -> None:
        self._records(*(Happening(self.seq + 1 + i, self.step, self.branch, self.clock.ns(), e) for i, e in enumerate(events)))

    def _records(self, *records: object) -> None:
        self.seq += len(records)
        self.core.flow.records(self.session, self.core.intake.take_read(self.session, list(records)))

    def steps(self, n: int, loss: float = 1.0, bad: int = 0) -> None:
        for _ in range(n):
            value = loss * (1 + 0.01 * math.sin(self.step))
            self._records(Point(self.seq + 1, self.step, self.branch, self.clock.ns(), ("loss", "bad"), (value, bad)))
            self.step += 1
            self.clock.advance(0.05)
            if self.speaks:
                self.safe_point()
            if self.step % 5 == 0:
                self.core.rate_plans.tick()
            self.settle()

    def settle(self) -> None:
        """What waits until it is on disk goes now."""
        while any(standing.command.id not in self.arrived for standing in self.core.orders.standing()):
            assert self.writer.flush()
            self.posted.get(timeout=60)()

    def safe_point(self) -> None:
        due = [c for c in self.inbox if c.at is None or c.at <= self.step or c.branch not in (None, self.branch)]
        for command in due:
            self.inbox.remove(command)
            action = command.action
            assert isinstance(action, SetKnob)
            if command.branch not in (None, self.branch):
                self.take(Done(outcome=self.outcome(command, "rejected", "the training is on another branch")))
                continue
            self.set(action.amount, command.by, command)

    def set(self, factor: float, by: str = "operator", command: Command | None = None) -> None:
        old, new = self.rate, self.rate * factor
        if not self.low <= new <= self.high:
            assert command is not None
            self.take(Done(outcome=self.outcome(command, "rejected", "out of its bounds")))
            return
        self.rate, self.scale = new, self.scale * factor
        self.rates.append((self.step, new))
        events: list[object] = [KnobChanged(knob="lr", old=old, new=new, scale=self.scale, by=by)]
        if command is not None:
            detail = {"old": old, "new": new, "scale": self.scale, "held": False}
            events.append(Done(outcome=self.outcome(command, "applied", f"lr {old:g} → {new:g}", detail)))
        self.take(*events)

    def outcome(self, command: Command, status: str, text: str, detail: dict[str, object] | None = None) -> Outcome:
        return Outcome(id=command.id, status=status, step=self.step, branch=self.branch, text=text, detail=detail or {})

    def goes_back(self, step: int) -> None:
        left, self.branch = self.step, self.branch + 1
        self.step = step
        self.take(Restored(branch=self.branch, from_branch=self.branch - 1, step=step, left=left, source="snapshot"))

    def dies_and_resumes(self, step: int, scale: float) -> None:
        """Another process goes on from a checkpoint, in which the knob's scale was this."""
        self.inbox.clear()
        self.session, self.seq, self.branch, self.step = f"s{self.branch + 1}", 0, self.branch + 1, step
        self.core.flow.sessions_over({self.session})
        self.core.flow.session(self.session, (self.clock.ns(), self.clock.ns()))
        old, self.rate, self.scale = 0.1, 0.1 * scale, scale
        self.take(
            SessionStart(pid=2, host="h", branch=self.branch, resumed=(self.branch - 1, step)),
            KnobDeclared(spec=KnobSpec(name="lr", low=self.low, high=self.high, scale="log")),
            *([KnobChanged(knob="lr", old=old, new=self.rate, scale=scale, by="resume")] if scale != 1.0 else []),
        )
        self.core.life.pid = 2

    @property
    def unfinished(self) -> list[str]:
        return [key for key, plan in self.core.rate_plans._plans.items() if not plan.finished]

    def logbook(self, status: str) -> list[str]:
        self.writer.flush()
        return [line.detail for line in self.reader.logbook() if line.status == status]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.chdir(tmp_path)
    made: list[World] = []

    def begin(text: str) -> World:
        made.append(World(tmp_path, text))
        return made[-1]

    yield begin
    for world in made:
        world.end()


def cut(world: World) -> None:
    """The rule finds its trouble, and then all is well again."""
    world.steps(60)
    world.steps(13, bad=1)
    assert [round(rate, 6) for _, rate in world.rates[:1]] == [0.05]


def test_a_warm_up_goes_to_a_tenth_and_linearly_up_to_the_new_level(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(300)
    (began, _), *stages = world.rates
    assert [round(rate / 0.05, 3) for _, rate in stages] == [0.1, 0.19, 0.28, 0.37, 0.46, 0.55, 0.64, 0.73, 0.82, 0.91, 1.0]
    assert [step - stages[0][0] for step, _ in stages] == [20 * i for i in range(11)]
    assert stages[0][0] - began <= 1
    assert world.rate == pytest.approx(0.05)
    assert world.logbook("planned") == ["lr 0.1 → 0.05: a warm-up over 200 steps from 10% of 0.05 follows"]
    said = [text for text in world.logbook("sent") if text.startswith("warm-up")]
    assert said[0] == "warm-up after lr 0.1 → 0.05 at step 71: to 10% of it".replace("71", str(began))
    assert said[-1].endswith("to 100% of it (10 of 10)")
    table = interventions(world.reader)  # the report's: each with its own reason
    assert [row.why for row in table] == ["bad > 0 for 10 points: bad 1", *said]
    world.core.rate_plans.tick()
    assert not world.unfinished


def test_what_was_cut_is_given_back_after_healthy_steps_in_a_row(begin) -> None:
    world = begin(BACK)
    cut(world)
    began = world.step
    world.steps(200)
    assert world.rate == pytest.approx(0.05)
    world.steps(200)
    assert world.rate == pytest.approx(0.1)
    assert world.rates[-1][0] - began >= 295
    (said,) = [text for text in world.logbook("sent") if "given back" in text]
    assert "healthy steps in a row: lr 0.1 → 0.05 of step" in said
    world.steps(400)
    assert len(world.rates) == 2


def test_the_operators_own_change_ends_it_and_what_was_on_its_way_is_taken_back(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(50)
    world.speaks = False
    while not world.inbox:  # the next stage lies in the training process, for its step
        world.steps(1)
    world.set(4.0)
    mine, world.speaks = world.rate, True
    world.steps(300)
    assert world.rate == pytest.approx(mine)
    assert max(rate for step, rate in world.rates if step > 100) < 1.4 * mine
    (said,) = world.logbook("ended")
    assert "the operator set lr to" in said
    assert any("what was on its way is taken back" in text for text in world.logbook("sent"))


def test_a_cut_that_the_operator_approved_is_no_change_of_theirs(begin) -> None:
    world = begin(BACK.replace('"act"', '"ask"'))
    world.steps(60)
    world.steps(13, bad=1)
    assert world.core.dispatcher.approve("p1") is not None
    world.steps(400)
    assert world.rates[0][1] == pytest.approx(0.05)
    assert world.rate == pytest.approx(0.1)


def test_a_restore_lets_the_warm_up_go_on_and_ends_the_giving_back_of_what_came_after_that_state(begin) -> None:
    world = begin(WARM + 'back_after = "300 steps"\n')
    cut(world)
    world.steps(50)
    share = world.rate / 0.05
    assert 0.2 < share < 0.5
    world.goes_back(40)
    world.steps(600)
    assert world.rate == pytest.approx(0.05)
    rates = [rate / 0.05 for _, rate in world.rates if rate < 0.1]
    assert max(b - a for a, b in pairwise(rates[1:])) < 0.1
    (said,) = world.logbook("went back")
    assert said == (
        "the training went back to step 40: the warm-up goes on from there, and what was cut stays cut, and is not given back by itself"
    )


def test_another_process_goes_on_with_the_warm_up_from_where_its_checkpoint_was(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(90)  # the next stages lie in the process that dies
    before = len(world.rates)
    world.dies_and_resumes(100, 0.5 * 0.28)
    world.steps(300)
    assert [round(rate / 0.05, 3) for _, rate in world.rates[before:]] == [0.37, 0.46, 0.55, 0.64, 0.73, 0.82, 0.91, 1.0]
    steps = [step for step, _ in world.rates[before:]]
    assert min(b - a for a, b in pairwise(steps)) >= 15
    assert world.logbook("goes on") == [
        "lr 0.1 → 0.05 at step 70: another process goes on at step 104 with 28% of 0.05: the warm-up goes on from there"
    ]
    assert not world.logbook("ended")
    assert not world.unfinished


def test_a_warm_up_that_was_over_goes_on_where_the_checkpoint_is_of_before_its_end(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(300)
    assert not world.unfinished
    world.dies_and_resumes(200, 0.5 * 0.64)
    world.steps(200)
    assert world.rate == pytest.approx(0.05)


def test_what_was_given_back_is_given_back_again_where_the_checkpoint_is_of_before_that(begin) -> None:
    world = begin(BACK)
    cut(world)
    world.steps(400)
    assert world.rate == pytest.approx(0.1)
    world.dies_and_resumes(200, 0.5)
    world.steps(250)
    assert world.rate == pytest.approx(0.05)
    world.steps(100)
    assert world.rate == pytest.approx(0.1)


def test_a_process_that_begins_from_before_the_cut_ends_it_and_has_the_rate_of_then(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(50)
    world.dies_and_resumes(40, 1.0)
    world.steps(300)
    assert world.rate == pytest.approx(0.1)
    assert world.logbook("ended") == [
        "the warm-up after lr 0.1 → 0.05 at step 70 ends: another process has begun, in which lr stands as it did before that"
    ]
    assert world.core.rate_plans._plans == {}


def test_a_process_whose_rate_was_moved_by_somebody_else_ends_it_and_says_where_it_stands(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(50)
    world.dies_and_resumes(100, 0.2)
    world.steps(50)
    (said,) = world.logbook("ended")
    assert "another process has begun, in which lr stands at 0.2 × its schedule" in said
    assert world.rate == pytest.approx(0.02)


def test_a_cut_whose_warm_up_had_not_begun_stands_in_the_next_process(begin) -> None:
    world = begin(WARM)
    world.steps(60)
    world.speaks = False
    world.steps(13, bad=1)
    (order,) = world.inbox
    world.inbox.clear()
    world.set(order.action.amount, order.by, order)  # the cut, and its process dies before anything follows
    world.speaks = True
    world.dies_and_resumes(world.step, 0.5)
    world.steps(300)
    assert world.rate == pytest.approx(0.05)
    assert not world.unfinished


def test_daemon_and_process_die_together_and_the_next_two_go_on(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(90)
    world.end()
    world.begin()
    world.dies_and_resumes(100, 0.5 * 0.28)
    world.steps(300)
    assert world.rate == pytest.approx(0.05)
    assert world.logbook("goes on")
    assert not world.unfinished


def test_the_next_daemon_goes_on_with_it_and_acts_on_no_finding_twice(begin) -> None:
    world = begin(WARM + 'back_after = "300 steps"\n')
    world.steps(60)
    world.steps(60, bad=1)
    done = len(world.rates)
    assert 3 <= done <= 5
    world.end()
    world.begin()
    for finding in world.core.engine.catch_up_ended():
        world.core.flow.finding(finding)
    assert world.logbook("done already")
    world.steps(100, bad=1)
    world.steps(600)
    rates = [round(rate / 0.05, 2) for _, rate in world.rates]
    assert rates == [1.0, 0.1, 0.19, 0.28, 0.37, 0.46, 0.55, 0.64, 0.73, 0.82, 0.91, 1.0, 2.0]


def test_bounds_hold(begin) -> None:
    world = begin(WARM + 'back_after = "50 steps"\n')
    world.take(KnobDeclared(spec=KnobSpec(name="lr", low=0.04, high=0.11, scale="log")))
    world.low, world.high = 0.04, 0.06
    cut(world)
    assert world.rates[1][1] >= 0.04
    world.steps(600)
    assert all(0.04 <= rate <= 0.06 for _, rate in world.rates)
    assert "rejected: out of its bounds" in world.logbook("ended")[0]


def test_a_rule_that_only_watches_now_does_no_more(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(50)
    world.core.dispatcher.set_preset("watch")
    before = len(world.rates)
    world.steps(100)
    assert len(world.rates) - before <= 3  # which lay in the training process already
    assert "rule cut may not act any more" in world.logbook("ended")[0]


def test_a_changed_rate_gets_before_and_after_and_no_claim(begin) -> None:
    world = begin(CUT)
    cut(world)
    world.steps(POINTS + 10, loss=0.8)
    (said,) = world.logbook("before / after")
    assert said.startswith("lr 0.1 → 0.05 by cut at step ")
    assert ": loss 0.9999 before (median of 69 points up to step 70), 0.8" in said
    assert f" after (of {POINTS} up to step" in said
    assert said.endswith(NO_CLAIM)
    world.set(2.0)
    world.steps(POINTS + 10)
    assert world.logbook("before / after")[-1].startswith("lr 0.05 → 0.1 by operator at step ")


def test_a_cut_with_its_warm_up_is_one_change(begin) -> None:
    world = begin(WARM)
    cut(world)
    world.steps(250 + POINTS)
    (said,) = world.logbook("before / after")
    assert said.startswith("lr 0.1 → 0.05 by cut in 12 changes, steps ")


def test_what_was_left_by_a_restore_gets_no_verdict(begin) -> None:
    world = begin(CUT)
    cut(world)
    world.steps(50)
    world.goes_back(50)
    world.steps(POINTS + 50)
    assert not world.logbook("before / after")
    assert "the training went back to step 50 before" in world.logbook("no verdict")[0]


def test_the_next_daemon_gives_the_verdict(begin) -> None:
    world = begin(CUT)
    cut(world)
    world.steps(50, loss=0.8)
    world.end()
    world.begin()
    world.steps(POINTS + 10, loss=0.8)
    (said,) = world.logbook("before / after")
    assert said.startswith("lr 0.1 → 0.05 by cut at step 70: loss 0.9999 before (median of 69 points up to step 70), 0.8")


def test_a_rule_whose_trouble_is_older_than_what_the_next_daemon_is_told_acts_no_second_time() -> None:
    def rule() -> Own:
        return make("cut", OwnParams(when="loss > 0", do="lr=0.5x"), own_actions("lr=0.5x"))

    first, view = rule(), RunView(in_session=True)
    (found,) = [f for step in range(100) if (f := first.observe(Sample(step, 0, float(step), {"loss": 1.0}), view))]
    after = rule()
    (anew,) = [f for step in range(5000, 5100) if (f := after.observe(Sample(step, 0, float(step), {"loss": 1.0}), view))]
    after.know(first.knowledge())
    again = after.standing(view)
    assert again is not None
    assert (again.key, again.step, again.branch) == (found.key, found.step, found.branch)
    assert anew.step == 5000

    other = rule()  # it was over meanwhile, and is so again: that is another one
    for step in range(5000, 5100):
        other.observe(Sample(step, 0, float(step), {"loss": 1.0 if step > 5050 else -1.0}), view)
    other.know(first.knowledge())
    new = other.standing(view)
    assert new is not None
    assert (new.key, new.step) == ("cut:2", 5051)


def test_what_the_operator_asks_for_outdoes_a_rule_until_it_is_rejected(begin) -> None:
    world = begin(CUT)
    reach = Reach(
        read=lambda query, answer: None, when_safe=lambda told: told(True), log=world.core.log_entry, rules=list,
        stop=lambda action, wait, answer: None, stop_now=lambda answer: None, test_notify=lambda answer: None,
        rollback_sent=lambda: None, unanswered=lambda action: None,
    )  # fmt: skip
    demands, answers = world.core.demands(reach), []
    world.high = 0.15
    world.speaks = False
    world.steps(60)
    demands(queries.Act(action=SetKnob(knob="lr", op="scale", amount=2.0), wait=60.0), answers.append)
    world.steps(13, bad=1)
    assert world.logbook("outdone")[0].startswith("the operator asked for set lr=2x ")
    world.speaks = True
    world.steps(20)
    assert [a.status for a in answers] == ["rejected"]
    world.steps(13, bad=1)
    assert [round(rate, 6) for _, rate in world.rates] == [0.05]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CUT + 'warmup = "200"\n', r"\(line 6\): warmup = '200': expected steps, such as '200 steps'"),
        (CUT + 'back_after = "2h"\n', r"\(line 6\): back_after = '2h': expected steps"),
        (WARM.replace("lr=0.5x", "checkpoint"), r"\(line 6\): warmup: expected beside a change of a knob"),
    ],
)
def test_what_is_no_number_of_steps_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build(parse(text, "x"), "x")
