"""A trouble is said once it has begun and once it is over, under one key; going back leaves it behind."""

from sitter.rules.base import changes, gave_up, recovered
from sitter.rules.trouble import MachineRule, TroubleRule
from sitter.rules.view import RunView, Sample
from sitter_wire.events import KnobChanged, Restored, SessionStart
from sitter_wire.records import Happening

VIEW = RunView()


class High(TroubleRule):
    """Says what is above one."""

    name = "high"
    title = "too high"

    def fresh(self):
        return {"rates": []}

    def observe(self, sample, view):
        value = sample.values["loss"]
        if value > 1.0:
            return self.says("info", f"loss {value:g}", sample, onset=sample.step, evidence={"loss": value})
        return self.ends("loss is low again", sample, recovered=value > 0.0, evidence={"loss": value})

    def rate_changed(self, step):
        self.memory["rates"].append(step)


def at(rule, step, loss, branch=0):
    return rule.observe(Sample(step=step, branch=branch, time=float(step), values={"loss": loss}), VIEW)


def happens(rule, step, event):
    rule.happened(Happening(0, step, 0, 0, event), VIEW)


def test_its_end_has_the_key_of_its_beginning_and_so_has_what_is_said_meanwhile():
    rule = High()
    first, more, end = at(rule, 7, 2.0), at(rule, 8, 3.0), at(rule, 9, 0.5)
    assert first.key == more.key == end.key == "high:0:7"
    assert (first.onset, more.onset, end.step) == (7, 8, 9)
    assert recovered(end)
    assert end.evidence["loss"] == 0.5
    assert at(rule, 10, 2.0).key == "high:0:10"


def test_what_was_not_said_is_not_over():
    assert at(High(), 7, 0.5) is None


def test_an_end_without_recovery_is_none():
    rule = High()
    at(rule, 7, 2.0)
    end = at(rule, 8, -1.0)
    assert gave_up(end)
    assert not recovered(end)


def test_a_restore_leaves_it_behind_though_the_rule_does_nothing_about_it():
    rule = High()
    at(rule, 7, 2.0)
    happens(rule, 8, Restored(step=5, branch=1, from_branch=0, left=8, source="snapshot"))
    assert at(rule, 6, 0.5, branch=1) is None
    assert at(rule, 7, 2.0, branch=1).key == "high:1:7"


def test_that_another_process_does_not_have_it_is_no_recovery():
    rule = High()
    at(rule, 7, 2.0)
    happens(rule, 0, SessionStart(pid=2, host="h", branch=1))
    assert at(rule, 0, 0.5, branch=1) is None
    assert at(rule, 1, 2.0, branch=1).key == "high:1:1"


def test_a_rule_can_say_that_it_was_left_behind():
    class Tells(High):
        said = None

        def restored(self, event):
            self.said = self.ends("left behind", event)

    rule = Tells()
    key = at(rule, 7, 2.0).key
    happens(rule, 8, Restored(step=5, branch=1, from_branch=0, left=8, source="snapshot"))
    assert (rule.said.key, rule.said.step, rule.said.branch) == (key, 5, 1)
    assert rule.trouble == ""


def test_only_another_rate_is_another_rate():
    rule = High()
    happens(rule, 3, KnobChanged(knob="weight_decay", old=1.0, new=0.5, scale=0.5))
    happens(rule, 4, KnobChanged(knob="lr", old=1.0, new=0.5, scale=0.5))
    assert rule.memory == {"rates": [4]}


def test_a_copy_of_its_memory_is_gone_back_to_and_stays_intact():
    rule = High()
    copy = rule.state()
    rule.memory["rates"].append(1)
    rule.set_state(copy)
    rule.memory["rates"].append(2)
    rule.set_state(copy)
    assert rule.memory == {"rates": []}


class Full(MachineRule):
    """Says when less than half is left."""

    name = "full"
    title = "nearly full"

    def tick(self, view, now):
        if now > 0.5:
            return self.says("warning", "nearly full", view, evidence={"full": now})
        return self.ends("room again", view)


def test_a_trouble_of_the_machine_has_a_number_and_outlives_restores_and_processes():
    rule, view = Full(), RunView(step=7)
    assert rule.tick(view, 0.9).key == "full:1"
    happens(rule, 8, Restored(step=5, branch=1, from_branch=0, left=8, source="snapshot"))
    happens(rule, 0, SessionStart(pid=2, host="h", branch=2))
    assert rule.tick(view, 0.8).key == "full:1"
    end = rule.tick(view, 0.1)
    assert (end.key, end.step, recovered(end)) == ("full:1", 7, True)
    assert rule.tick(view, 0.1) is None
    assert rule.tick(RunView(), 0.9).key == "full:2"


def test_a_rule_of_the_machine_is_told_no_events_unless_it_wants_them():
    assert not changes(Full(), "happened")
