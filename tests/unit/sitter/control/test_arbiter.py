"""Two that want opposite things: who has their way, and what is said of the other."""

import msgspec
import pytest

from sitter.config import parse
from sitter.control.arbiter import WINDOW_S, opposite
from sitter.control.dispatcher import COOL_DOWN_S, KEPT, Dispatcher
from sitter.control.joint import alike
from sitter.control.ruleset.settings import RuleDefaults, settings
from sitter.model import EndAndRestart, Finding, Notification
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


def test_what_a_graver_one_asks_for_is_not_outdone_unasked_within_the_minute():
    world = World()
    world.dispatcher.settings["one"] = msgspec.structs.replace(world.dispatcher.settings["one"], mode="ask")
    world.found("one", DOWN, severity="critical")
    world.found("other", UP)
    assert world.acted == []
    assert world.hands.said("outdone") == [("other", "rule one wanted set lr=0.5x at step 10, which is the opposite, and is graver")]
    world.found("guard", UP, severity="info")  # the guard stands before all others
    assert world.acted == ["guard"]
    world.clock.advance(WINDOW_S)
    world.found("slow", UP, step=20)
    assert [p.finding.rule for p in world.dispatcher.proposals.values()] == ["one", "slow"]


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


def test_what_the_guard_gives_back_leaves_a_rate_that_was_set_before_as_it_was():
    world = World()
    world.dispatcher.by_hand(SetKnob(knob="lr", op="scale", amount=0.9))
    world.clock.advance(20)
    world.found("guard", Rollback(also_scale={"lr": 0.3}), severity="critical")
    world.found("guard", SetKnob(knob="lr", op="scale", amount=1 / 0.3), severity="info", step=40)
    assert world.acted == ["guard"] * 2
    world.found("guard", UP, severity="info", step=60)  # more than it had put on it
    assert world.acted == ["guard"] * 2
    assert world.hands.said("outdone") == [("guard", "the operator asked for set lr=0.9x 20 s ago, which is the opposite")]


def test_what_was_put_on_it_before_a_restore_came_back_with_the_state():
    world = World()
    world.dispatcher.by_hand(UP)
    world.found("guard", Rollback(also_scale={"lr": 0.3}), severity="critical")
    world.found("guard", Rollback(also_scale={"lr": 0.09}), severity="critical", step=11)  # to where nothing was on it yet
    world.found("guard", SetKnob(knob="lr", op="scale", amount=1 / 0.09), severity="info", step=40)
    assert world.acted == ["guard"] * 3


def test_what_the_guard_had_put_on_it_is_the_operators_once_he_has_set_it_since():
    world = World()
    world.found("guard", Rollback(also_scale={"lr": 0.3}), severity="critical")
    world.dispatcher.by_hand(SetKnob(knob="lr", op="scale", amount=0.9))
    world.found("guard", SetKnob(knob="lr", op="scale", amount=1 / 0.3), severity="info", step=40)
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


STOP = Stop(checkpoint=True, why="it gets no better")
SAME = Stop(checkpoint=True, why="the goal gets worse")


def asking(world, *rules):
    for rule in rules:
        world.dispatcher.settings[rule] = msgspec.structs.replace(world.dispatcher.settings[rule], mode="ask")


def both_asked():
    """The rules one and other, which ask, have found reason for the same."""
    world = World()
    asking(world, "one", "other")
    world.found("one", STOP)
    world.found("other", SAME)
    return world


@pytest.mark.parametrize(
    ("one", "other", "is_so"),
    [
        ([STOP], [SAME], True),
        ([STOP], [Stop(why="it gets no better")], False),
        ([DOWN], [SetKnob(knob="lr", op="scale", amount=0.3)], False),
        ([TakeCheckpoint(why="a"), DOWN], [DOWN, TakeCheckpoint(why="b")], True),
        ([TakeCheckpoint()], [TakeCheckpoint(), DOWN], False),
        ([Rollback(before=10, why="a")], [Rollback(before=10)], True),
        ([Rollback(before=10)], [Rollback(before=9)], False),
        ([Notification(event="a", text="x")], [Notification(event="a", text="x")], False),
        ([], [], False),
    ],
)
def test_what_is_the_same(one, other, is_so):
    assert alike(one, other) is is_so
    assert alike(other, one) is is_so


def test_two_rules_that_ask_for_the_same_are_one_proposal_with_both_findings():
    world = both_asked()
    (proposal,) = world.dispatcher.proposals.values()
    assert [f.rule for f in (proposal.finding, *proposal.also)] == ["one", "other"]
    assert proposal.said() == "so; and other: so"
    assert world.hands.said("joined") == [("other", "p1: so; one proposed the same, so it is one proposal")]
    world.found("other", SAME)  # it is still so
    assert len(world.dispatcher.proposals["p1"].also) == 1
    world.dispatcher.approve("p1")
    assert world.hands.acted == [("one", "operator")]
    asking(world)
    world.found("other", SAME)
    assert world.hands.acted == [("one", "operator")]
    assert not world.dispatcher.proposals


def test_what_one_of_them_takes_back_the_other_still_proposes():
    world = both_asked()
    world.dispatcher.withdrawn("one", "no longer true")
    (proposal,) = world.dispatcher.proposals.values()
    assert (proposal.finding.rule, proposal.also) == ("other", [])
    assert world.hands.said("left") == [("one", "p1: no longer true; rule other proposes it still")]
    world.dispatcher.snooze("other", 60)
    assert not world.dispatcher.proposals


def test_a_veto_is_an_answer_to_both():
    world = both_asked()
    world.dispatcher.veto("p1")
    assert sorted(world.hands.refusals) == ["one", "other"]
    for rule in ("one", "other"):
        world.found(rule, STOP, step=20)
    assert not world.dispatcher.proposals


def test_one_that_may_act_after_a_delay_takes_over_what_another_asked_and_leaves_it_asked():
    world = World()
    asking(world, "one")
    world.found("one", STOP)
    world.found("slow", SAME)
    (proposal,) = world.dispatcher.proposals.values()
    assert (proposal.finding.rule, [f.rule for f in proposal.also]) == ("slow", ["one"])
    after = world.next()
    asking(after, "one")
    (kept,) = after.dispatcher.proposals.values()
    assert kept == proposal
    world.dispatcher.withdrawn("slow", "no longer true")
    (proposal,) = world.dispatcher.proposals.values()
    assert (proposal.finding.rule, proposal.due) == ("one", None)
    after.clock.advance(121)
    after.dispatcher.tick()
    assert after.hands.acted == [("slow", "rule:slow")]
    assert not after.dispatcher.proposals


@pytest.mark.parametrize("hand", [True, False])
def test_what_is_asked_stays_asked_where_the_one_that_may_act_is_outdone(hand):
    world = World()
    asking(world, "one")
    world.found("one", DOWN)
    world.found("slow", DOWN)
    world.clock.advance(90)
    if hand:
        world.dispatcher.by_hand(UP)
    else:
        world.found("other", UP, severity="critical")
    world.clock.advance(31)
    world.dispatcher.tick()
    (proposal,) = world.dispatcher.proposals.values()
    assert (proposal.id, proposal.finding.rule, proposal.also, proposal.due) == ("p1", "one", [], None)
    assert world.acted == ([] if hand else ["other"])
    assert world.hands.refusals == ["slow"]


def test_what_a_spent_budget_keeps_one_from_doing_another_still_asks():
    world = World()
    asking(world, "one")
    world.found("one", STOP)
    world.found("slow", SAME)
    world.dispatcher.settings["slow"] = msgspec.structs.replace(world.dispatcher.settings["slow"], limit=(0, 3600.0))
    world.hands.budget_spent = lambda finding: None
    world.clock.advance(121)
    world.dispatcher.tick()
    (proposal,) = world.dispatcher.proposals.values()
    assert (proposal.id, proposal.finding.rule, proposal.due) == ("p1", "one", None)
    assert not world.acted


def test_two_that_are_due_at_once_and_are_the_same_are_done_once():
    world = World()
    asking(world, "one")
    world.dispatcher.settings["other"] = msgspec.structs.replace(world.dispatcher.settings["other"], delay=120.0)
    world.found("one", STOP)
    world.found("slow", SAME, key="a")
    world.found("slow", SAME, key="b")  # a second trouble of the same rule is a proposal of its own
    world.dispatcher.withdrawn("a", "no longer true")
    world.found("other", SAME)
    assert {p.id: p.finding.rule for p in world.dispatcher.proposals.values()} == {"p1": "other", "p2": "slow"}
    world.clock.advance(121)
    world.dispatcher.tick()
    assert world.acted == ["slow"]
    assert not world.dispatcher.proposals


def test_what_another_rule_has_just_done_is_not_done_again_nor_asked_for():
    world = World()
    world.found("one", DOWN)
    world.found("other", DOWN)
    assert world.acted == ["one"]
    assert world.hands.said("done already") == [("other", "rule one did the same 0 s ago: nothing done")]
    asking(world, "other")
    world.found("other", DOWN, step=20)
    assert not world.dispatcher.proposals
    world.clock.advance(WINDOW_S)
    world.found("other", DOWN, step=30)
    assert len(world.dispatcher.proposals) == 1


def test_what_was_asked_is_done_when_another_rule_does_it():
    world = World()
    asking(world, "one")
    world.found("one", STOP)
    world.found("other", SAME)
    assert world.acted == ["other"]
    assert world.hands.said("done") == [("one", "p1: rule other does the same")]


def test_what_the_operator_has_just_asked_for_is_not_proposed_again():
    world = World()
    world.dispatcher.by_hand(Stop(checkpoint=True))
    world.found("one", STOP)
    assert not world.acted
    assert world.hands.said("done already") == [("one", "the operator asked for the same 0 s ago: nothing done")]


def test_the_same_for_two_steps_that_somebody_named_are_two_proposals():
    world = World()
    asking(world, "one", "other")
    for rule, step in (("one", 100), ("other", 200)):
        finding = Finding(rule=rule, severity="info", step=10, branch=0, onset=10, text="so", key=rule, actions=[DOWN], at=step)
        world.dispatcher.finding(finding)
    assert [p.finding.at for p in world.dispatcher.proposals.values()] == [100, 200]


def test_whoever_wanted_to_go_back_from_a_state_that_is_left_proposes_it_no_more():
    world = World()
    asking(world, "one", "other")
    world.found("one", Rollback(before=100))
    world.found("other", STOP)
    world.dispatcher.left_behind("the training went back to step 90")
    assert [p.finding.rule for p in world.dispatcher.proposals.values()] == ["other"]


def test_what_is_meant_for_steps_that_somebody_named_is_all_done():
    """As ``sitter export --interventions`` writes it: an order is sent ahead of its step, several of them within one minute."""
    world = World()
    for rule, step, action in (("one", 100, UP), ("other", 200, DOWN), ("slow", 300, UP)):
        finding = Finding(rule=rule, severity="info", step=10, branch=0, onset=10, text="so", key=rule, actions=[action], at=step)
        world.dispatcher.finding(finding)
    world.clock.advance(120.0)
    world.dispatcher.tick()
    assert [rule for rule, _ in world.hands.acted] == ["one", "other", "slow"]
    world.found("other", DOWN, severity="info", key="again")
    assert [rule for rule, _ in world.hands.said("outdone")] == ["other"]
