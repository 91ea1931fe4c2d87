"""Two that want opposite things: who has their way, and what is said of the other."""

import msgspec
import pytest

from sitter.config import parse
from sitter.control.arbiter import WINDOW_S, opposite
from sitter.control.dispatcher import COOL_DOWN_S, KEPT, Dispatcher
from sitter.control.settings import RuleDefaults, settings
from sitter.model import EndAndRestart, Finding
from sitter.testing.manual_clock import ManualClock
from sitter_wire.commands import DropBatches, Pause, Rollback, SetKnob, Stop, TakeCheckpoint, Unpause

UP, DOWN = SetKnob(knob="lr", op="scale", amount=2.0), SetKnob(knob="lr", op="scale", amount=0.5)
RULES = [
    RuleDefaults(name=name, guard=name == "guard", mode="act", delay=0.0, limit="") for name in ("guard", "one", "other", "slow")
]  # fmt: skip


class Hands:
    def __init__(self):
        self.acted, self.lines, self.kept, self.refusals = [], [], {}, []

    def act(self, finding, by):
        self.acted.append((finding.rule, by))

    def log(self, kind, finding, status, detail):
        self.lines.append((finding.rule, status, detail))

    def spends(self, finding):
        return True

    def budget_spent(self, finding):
        raise AssertionError("no budget here")

    def refused(self, rule):
        self.refusals.append(rule)

    def keep(self, key, value):
        self.kept[key] = value

    def said(self, status):
        return [(rule, detail) for rule, what, detail in self.lines if what == status]


class World:
    """A dispatcher with rules that act; ``slow`` waits for two minutes first."""

    def __init__(self, clock=None, kept=None):
        self.hands, self.clock = Hands(), clock or ManualClock()
        toml = parse('[rules.slow]\ndelay = "2m"\n[rules.other]\nlimit = "9 per hour"\n', "x")
        self.dispatcher = Dispatcher(settings(RULES, toml, "x"), "guard", self.clock, self.hands)
        if kept is not None:
            self.dispatcher.restore({key: kept.get(key) for key in KEPT})

    def found(self, rule, *actions, severity="warning", step=10, key=None):
        self.dispatcher.finding(
            Finding(rule=rule, severity=severity, step=step, branch=0, onset=9, text="so", key=key or rule, actions=list(actions))
        )

    @property
    def acted(self):
        return [rule for rule, _ in self.hands.acted]

    def next(self):
        """The daemon that comes after this one."""
        return World(self.clock, {k: msgspec.msgpack.decode(msgspec.msgpack.encode(v)) for k, v in self.hands.kept.items()})


@pytest.mark.parametrize(
    ("one", "other", "is_so"),
    [
        (UP, DOWN, True),
        (UP, SetKnob(knob="lr", op="scale", amount=3.0), False),
        (UP, SetKnob(knob="momentum", op="scale", amount=0.5), False),
        (SetKnob(knob="lr", op="scale", amount=2.0, group="G"), SetKnob(knob="lr", op="scale", amount=0.5, group="D"), False),
        (SetKnob(knob="lr", op="scale", amount=2.0, group="G"), DOWN, True),
        (SetKnob(knob="lr", op="value", amount=0.1), SetKnob(knob="lr", op="value", amount=0.2), True),
        (SetKnob(knob="lr", op="value", amount=0.1), SetKnob(knob="lr", op="value", amount=0.1), False),
        (SetKnob(knob="lr", op="value", amount=0.1), DOWN, True),
        (Rollback(also_scale={"lr": 0.3}), UP, True),
        (Rollback(), UP, False),
        (Pause(), Unpause(), True),
        (Stop(), Pause(free=True), True),
        (EndAndRestart(), Stop(), True),
        (Stop(), Stop(checkpoint=True), False),
        (Pause(), TakeCheckpoint(), False),
        (DropBatches(count=3), Rollback(), False),
    ],
)
def test_what_is_opposite(one, other, is_so):
    assert opposite(one, other) is is_so
    assert opposite(other, one) is is_so


def test_of_two_alike_the_earlier_has_its_way_and_the_other_is_recorded():
    world = World()
    world.found("one", DOWN, step=1200)
    world.clock.advance(WINDOW_S - 1)
    world.found("other", UP)
    assert world.acted == ["one"]
    assert world.hands.said("outdone") == [
        ("other", "rule one wanted set lr=0.5x at step 1,200, which is the opposite, and was earlier")
    ]
    assert world.hands.refusals == ["other"]


def test_a_minute_later_it_may():
    world = World()
    world.found("one", DOWN)
    world.clock.advance(WINDOW_S)
    world.found("other", UP)
    assert world.acted == ["one", "other"]


def test_what_is_outdone_costs_no_budget():
    world = World()
    world.found("one", DOWN)
    world.found("other", UP)
    assert world.dispatcher.left("other") == 9


def test_the_graver_has_its_way_also_where_it_is_later():
    world = World()
    world.found("one", DOWN, severity="info")
    world.found("other", UP, severity="critical")
    world.found("slow", DOWN, severity="warning")
    assert world.acted == ["one", "other"]
    assert world.hands.said("outdone") == [("slow", "rule other wanted set lr=2x at step 10, which is the opposite, and is graver")]


def test_the_guard_stands_before_all_others():
    world = World()
    world.found("guard", Rollback(also_scale={"lr": 0.3}), severity="info")
    world.found("one", UP, severity="critical")
    assert world.acted == ["guard"]


def test_what_waits_for_its_delay_gives_way_to_what_is_graver_and_holds_back_what_is_not():
    world = World()
    world.found("slow", DOWN)
    world.found("one", UP)
    assert not world.acted
    assert "was earlier" in world.hands.said("outdone")[0][1]
    world.found("other", UP, severity="critical")
    assert world.acted == ["other"]
    assert not world.dispatcher.proposals
    assert world.hands.said("withdrawn") == [
        ("slow", "p1: outdone: rule other wanted set lr=2x at step 10, which is the opposite, and is graver")
    ]
    world.clock.advance(130)
    world.dispatcher.tick()
    assert world.acted == ["other"]


def test_the_operators_hand_is_never_outdone_and_outdoes_even_the_guards_rate():
    world = World()
    world.found("slow", UP)
    world.found("guard", UP, key="guard:rate")
    world.dispatcher.by_hand(DOWN)
    assert not world.dispatcher.proposals
    world.clock.advance(20)
    world.found("guard", UP, step=20)
    assert world.acted == ["guard"]
    assert world.hands.said("outdone") == [("guard", "the operator asked for set lr=0.5x 20 s ago, which is the opposite")]


def test_the_guards_way_back_is_not_outdone_by_a_rate_set_by_hand():
    world = World()
    world.dispatcher.by_hand(UP)
    world.found("guard", Rollback(also_scale={"lr": 0.3}), severity="critical")
    assert world.acted == ["guard"]


def test_what_waits_for_an_answer_stays_open_and_what_was_approved_counts_as_the_operators():
    world = World()
    world.dispatcher.settings["one"] = msgspec.structs.replace(world.dispatcher.settings["one"], mode="ask")
    world.found("one", UP)
    world.dispatcher.by_hand(DOWN)
    assert list(world.dispatcher.proposals) == ["p1"]
    world.dispatcher.approve("p1")
    assert world.hands.acted == [("one", "operator")]
    world.found("other", DOWN, severity="critical")
    assert world.acted == ["one"]


def test_what_came_to_nothing_stands_against_nothing():
    world = World()
    world.found("one", DOWN)
    world.dispatcher.arbiter.came_to_nothing(DOWN)
    world.found("other", UP)
    assert world.acted == ["one", "other"]


def test_one_finding_is_acted_on_once_and_the_trouble_again_at_a_later_step():
    world = World()
    world.found("guard", Rollback(), key="guard:0:9")
    world.found("guard", Rollback(), key="guard:0:9")
    assert world.acted == ["guard"]
    assert world.hands.said("done already")
    world.found("guard", Rollback(), key="guard:0:9", step=50)
    assert world.acted == ["guard", "guard"]


def test_the_next_daemon_knows_what_was_done():
    world = World()
    world.found("guard", Rollback(also_scale={"lr": 0.3}), key="guard:0:9")
    after = world.next()
    after.found("guard", Rollback(also_scale={"lr": 0.3}), key="guard:0:9")
    after.found("one", UP)
    assert not after.acted
    assert [status for _, status, _ in after.hands.lines if status in ("done already", "outdone")] == ["done already", "outdone"]


def test_ending_what_stands_still_is_tried_again_by_the_next_daemon():
    world = World()
    world.found("one", EndAndRestart(), key="one:1")
    world.clock.advance(COOL_DOWN_S)
    after = world.next()
    after.found("one", EndAndRestart(), key="one:1")
    assert after.acted == ["one"]
