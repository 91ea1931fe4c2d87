"""From finding to action: modes, budgets, delays, answers."""

import pytest

from sitter.config import parse
from sitter.control.dispatcher import COOL_DOWN_S, Dispatcher
from sitter.control.ruleset.settings import RuleDefaults, settings
from sitter.errors import ConfigError
from sitter.model import Finding
from sitter.testing.manual_clock import ManualClock
from sitter_wire.commands import Rollback, TakeCheckpoint

DEFAULTS = [
    RuleDefaults(name="guard", guard=True, mode="act", delay=0.0, limit="3 per hour"),
    RuleDefaults(name="hot", guard=False, mode="ask", delay=0.0, limit=""),
]


class Hands:
    def __init__(self):
        self.acted, self.lines, self.spent, self.kept, self.vetoed = [], [], [], {}, []

    def act(self, finding, by):
        self.acted.append((finding.rule, by))

    def log(self, kind, finding, status, detail):
        self.lines.append((kind, status))

    def spends(self, finding):
        return True

    def budget_spent(self, finding):
        self.spent.append(finding.rule)

    def refused(self, rule):
        self.vetoed.append(rule)

    def keep(self, key, value):
        self.kept[key] = value


def finding(rule="guard", key="k", actions=None):
    return Finding(
        rule=rule, severity="critical", step=10, branch=0, onset=9, text="it is bad", key=key,
        actions=[Rollback()] if actions is None else actions,
    )  # fmt: skip


def make(toml="", preset="guard"):
    hands, clock = Hands(), ManualClock()
    return Dispatcher(settings(DEFAULTS, parse(toml, "sitter.toml"), "sitter.toml"), preset, clock, hands), hands, clock


def test_under_guard_the_guard_acts_and_the_rest_asks():
    dispatcher, hands, _ = make()
    dispatcher.finding(finding("guard"))
    dispatcher.finding(finding("hot", "h", [TakeCheckpoint()]))
    assert hands.acted == [("guard", "rule:guard")]
    assert [p.finding.rule for p in dispatcher.proposals.values()] == ["hot"]


def test_under_watch_nothing_acts_and_nothing_is_asked():
    dispatcher, hands, _ = make(preset="watch")
    dispatcher.finding(finding("guard"))
    dispatcher.finding(finding("hot", "h"))
    assert not hands.acted
    assert not dispatcher.proposals
    assert [kind for kind, _ in hands.lines] == ["finding", "finding"]


def test_under_act_what_would_ask_acts_unless_the_file_says_otherwise():
    dispatcher, hands, _ = make(preset="act")
    dispatcher.finding(finding("hot", "h"))
    assert hands.acted == [("hot", "rule:hot")]
    dispatcher, hands, _ = make('[rules.hot]\nmode = "ask"', preset="act")
    dispatcher.finding(finding("hot", "h"))
    assert not hands.acted


def test_late_findings_propose_nothing():
    dispatcher, hands, _ = make()
    dispatcher.finding(finding(), late=True)
    assert not hands.acted
    assert hands.lines == [("finding", "late")]


def test_a_delay_can_be_vetoed_and_otherwise_passes():
    dispatcher, hands, clock = make('[rules.guard]\ndelay = "60s"')
    dispatcher.finding(finding(key="a"))
    dispatcher.finding(finding(key="b"))
    first, second = dispatcher.proposals
    dispatcher.veto(first)
    clock.advance(61)
    dispatcher.tick()
    assert hands.acted == [("guard", "rule:guard")]
    assert hands.vetoed == ["guard"]
    assert second not in dispatcher.proposals


def test_the_same_trouble_is_not_proposed_twice_nor_again_after_a_veto_until_it_was_over():
    dispatcher, _, _ = make()
    for _ in range(3):
        dispatcher.finding(finding("hot", "h"))
    (proposal,) = dispatcher.proposals
    dispatcher.veto(proposal)
    dispatcher.finding(finding("hot", "h"))
    assert not dispatcher.proposals
    dispatcher.withdrawn("h", "cool again")
    dispatcher.finding(finding("hot", "h"))
    assert len(dispatcher.proposals) == 1


def test_a_spent_budget_says_so_once_and_comes_back_with_time():
    dispatcher, hands, clock = make()
    for i in range(5):
        dispatcher.finding(finding(key=f"{i}"))
    assert len(hands.acted) == 3
    assert hands.spent == ["guard", "guard"]
    clock.advance(3601)
    dispatcher.finding(finding(key="later"))
    assert len(hands.acted) == 4


def test_budgets_snoozes_and_proposals_outlive_the_daemon_and_a_missed_delay_is_skipped():
    dispatcher, hands, clock = make('[rules.hot]\nmode = "act"\ndelay = "60s"')
    dispatcher.finding(finding(key="1"))
    dispatcher.finding(finding("hot", "h", [TakeCheckpoint()]))
    dispatcher.snooze("guard", 1000)
    successor, hands2, clock2 = make('[rules.hot]\nmode = "act"\ndelay = "60s"')
    clock2.advance(clock.monotonic() - clock2.monotonic() + 100)
    successor.restore({k: __import__("msgspec").to_builtins(v) for k, v in hands.kept.items()})
    assert successor.left("guard") == 2
    assert not successor.proposals
    assert ("proposal", "skipped") in hands2.lines
    assert not hands2.acted
    assert successor.snoozed["guard"] > clock2.wall()


def test_snoozed_rules_are_seen_and_not_acted_on():
    dispatcher, hands, clock = make()
    dispatcher.snooze("guard", 30)
    dispatcher.finding(finding(key="1"))
    assert not hands.acted
    clock.advance(31)
    dispatcher.finding(finding(key="2"))
    assert len(hands.acted) == 1


def test_rules_outside_the_guard_cool_down():
    dispatcher, hands, clock = make('[rules.hot]\nmode = "act"')
    dispatcher.finding(finding("hot", "1"))
    dispatcher.finding(finding("hot", "2"))
    assert len(hands.acted) == 1
    clock.advance(COOL_DOWN_S)
    dispatcher.finding(finding("hot", "3"))
    assert len(hands.acted) == 2


def test_a_change_to_watch_drops_what_may_no_longer_be_done():
    dispatcher, hands, _ = make()
    dispatcher.finding(finding("hot", "h"))
    dispatcher.set_preset("watch")
    assert not dispatcher.proposals
    assert hands.kept["preset"] == "watch"


def test_a_rule_that_is_not_there_is_named_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean guard"):
        make("[rules.gaurd]\nmode = 'off'")


def renewed(hands, clock, toml=""):
    """The next daemon's, with what the one before it kept."""
    told = Hands()
    told.kept = dict(hands.kept)
    after = Dispatcher(settings(DEFAULTS, parse(toml, "sitter.toml"), "sitter.toml"), "guard", clock, told)
    after.restore(dict(hands.kept))
    return after, told


def test_delays_that_end_together_do_not_overspend_the_budget():
    dispatcher, hands, clock = make('[rules.guard]\ndelay = "60s"\nlimit = "1 per day"')
    dispatcher.finding(finding(key="a"))
    dispatcher.finding(finding(key="b"))
    clock.advance(61)
    dispatcher.tick()
    assert hands.acted == [("guard", "rule:guard")]
    assert hands.spent == ["guard"]
    assert ("finding", "budget spent") in hands.lines


def test_a_clock_that_jumps_takes_nobody_the_time_to_veto():
    dispatcher, hands, clock = make('[rules.guard]\ndelay = "60s"')
    dispatcher.finding(finding())
    clock._wall += 3600
    dispatcher.tick()
    assert not hands.acted
    clock._wall -= 7200
    clock.advance(61)
    dispatcher.tick()
    assert len(hands.acted) == 1


def test_a_clock_set_back_does_not_spend_a_budget_for_ever():
    dispatcher, _, clock = make('[rules.guard]\nlimit = "1 per hour"')
    dispatcher.finding(finding(key="a"))
    clock._wall -= 365 * 86400
    assert dispatcher.left("guard") == 0
    clock.advance(3601)
    assert dispatcher.left("guard") == 1


def test_what_was_skipped_is_said_once_not_by_every_daemon_that_comes():
    dispatcher, hands, clock = make('[rules.guard]\ndelay = "60s"')
    dispatcher.finding(finding())
    clock.advance(61)
    _, second = renewed(hands, clock)
    assert second.lines == [("proposal", "skipped")]
    _, third = renewed(second, clock)
    assert third.lines == []


def test_an_approval_of_yesterday_never_reaches_another_proposal():
    dispatcher, hands, clock = make('[rules.guard]\nmode = "ask"')
    dispatcher.finding(finding(key="a"))
    dispatcher.veto("p1")
    after, told = renewed(hands, clock, '[rules.guard]\nmode = "ask"')
    after.finding(finding(key="b"))
    assert list(after.proposals) == ["p2"]
    assert after.approve("p1") is None
    assert not told.acted


def test_a_veto_holds_for_the_next_daemon_too_until_the_trouble_is_over():
    dispatcher, hands, clock = make('[rules.guard]\nmode = "ask"')
    dispatcher.finding(finding())
    dispatcher.veto("p1")
    after, told = renewed(hands, clock)
    after.finding(finding())
    assert not told.acted
    after.withdrawn("k", "no longer true")
    after.finding(finding())
    assert len(told.acted) == 1


def test_a_rule_that_is_snoozed_does_not_act_on_what_it_proposed_before():
    dispatcher, hands, clock = make('[rules.guard]\ndelay = "60s"')
    dispatcher.finding(finding())
    dispatcher.snooze("guard", 3600)
    clock.advance(61)
    dispatcher.tick()
    assert not hands.acted
    assert not dispatcher.proposals
    assert ("proposal", "withdrawn") in hands.lines


def test_what_was_proposed_of_a_state_that_was_left_goes_with_it():
    dispatcher, hands, clock = make('[rules.guard]\ndelay = "60s"')
    dispatcher.finding(finding())
    dispatcher.left_behind("the training went back")
    clock.advance(61)
    dispatcher.tick()
    assert not hands.acted
    assert not dispatcher.proposals


def test_a_delay_that_goes_on_from_an_earlier_daemon_waits_until_the_present_is_known():
    dispatcher, hands, clock = make('[rules.guard]\ndelay = "60s"')
    dispatcher.finding(finding())
    clock.advance(55)
    after, told = renewed(hands, clock)
    clock.advance(10)
    after.tick(present=False)
    assert not told.acted
    after.withdrawn("k", "no longer true")
    after.tick()
    assert not told.acted


def test_what_the_operator_approves_costs_the_rule_nothing_of_its_budget():
    dispatcher, hands, _ = make('[rules.guard]\nmode = "ask"')
    for i in range(5):
        dispatcher.finding(finding(key=f"k{i}"))
        (proposal,) = dispatcher.proposals
        dispatcher.approve(proposal)
    assert hands.acted == [("guard", "operator")] * 5
    assert dispatcher.left("guard") == 3


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_wall_clock_that_is_set_neither_ends_a_snooze_nor_prolongs_it(jump):
    dispatcher, hands, clock = make()
    dispatcher.snooze("guard", 600.0)
    clock._wall += jump
    dispatcher.tick()
    dispatcher.finding(finding(key="a"))
    assert not hands.acted
    assert "guard" in dispatcher.snoozed
    clock.advance(601)
    dispatcher.tick()
    dispatcher.finding(finding(key="b"))
    assert hands.acted
    assert hands.kept["snoozed"] == {}


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_after_the_wall_clock_was_set_people_and_the_next_daemon_are_told_when_it_will_really_be(jump):
    delay = '[rules.guard]\ndelay = "60s"'
    dispatcher, hands, clock = make(delay)
    dispatcher.finding(finding(key="a"))
    dispatcher.snooze("hot", 600.0)
    clock.advance(20)
    clock._wall += jump
    dispatcher.tick()
    (proposal,) = dispatcher.proposals.values()
    assert proposal.due == pytest.approx(clock.wall() + 40.0)
    assert dispatcher.snoozed["hot"] == pytest.approx(clock.wall() + 580.0)
    dispatcher.leave(lambda found: found.rule == "hot", "as something else changes")
    successor, theirs, clock2 = make(delay)
    clock2._wall = clock.wall() + 10.0
    successor.restore(hands.kept)
    assert not [line for line in theirs.lines if line[1] == "skipped"]
    for here, what, now, left in ((dispatcher, hands, clock, 40.0), (successor, theirs, clock2, 30.0)):
        now.advance(left - 1.0)
        here.tick()
        assert not what.acted
        now.advance(2.0)
        here.tick()
        assert what.acted == [("guard", "rule:guard")]


def test_a_snooze_goes_on_in_the_next_process_for_what_is_left_of_it():
    dispatcher, _, clock = make()
    dispatcher.restore({"snoozed": {"guard": clock.wall() + 100.0}})
    clock.advance(50)
    dispatcher.finding(finding(key="a"))
    assert "guard" in dispatcher.snoozed
    clock.advance(51)
    dispatcher.tick()
    assert "guard" not in dispatcher.snoozed


def test_what_was_asked_for_at_its_times_does_not_cool_down():
    hands, clock = Hands(), ManualClock()
    defaults = [RuleDefaults(name="every", guard=False, mode="act", delay=0.0, limit="3 per day", cools=False)]
    dispatcher = Dispatcher(settings(defaults, parse("", "x"), "x"), "guard", clock, hands)
    for number in range(5):
        clock.advance(5.0)
        dispatcher.finding(finding("every", f"every:{number}", [TakeCheckpoint()]))
    assert len(hands.acted) == 3
    assert ("finding", "budget spent") in hands.lines


def test_who_answers_too_late_is_told_what_became_of_it():
    dispatcher, _, clock = make('[rules.hot]\nmode = "act"\ndelay = "60s"')
    dispatcher.finding(finding("hot", "h", [TakeCheckpoint()]))
    dispatcher.veto("p1")
    assert dispatcher.veto("p1") is None
    assert dispatcher.became("p1") == "p1 was vetoed: by the operator"
    dispatcher.finding(finding("hot", "other", [TakeCheckpoint()]))
    clock.advance(60.0)
    dispatcher.tick()
    assert dispatcher.approve("p2") is None
    assert dispatcher.became("p2") == "p2 was due: its delay has passed without a veto"
    assert dispatcher.became("p9") == "there is no proposal 'p9'"
