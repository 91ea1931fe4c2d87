"""A rule whose budget is spent falls back to watching and says so: in the logbook, and to whoever hears of what it does."""

import contextlib
import time

import pytest

from sitter.model import Finding, Notification
from sitter.rules.catalogue import RULES
from sitter.store.reader import Reader
from sitter.testing.manual_clock import ManualClock
from sitter_wire import rundir
from sitter_wire.commands import Rollback, SetKnob, TakeCheckpoint
from tests.unit.sitter.control.conftest import opened

LIMITED = [rule.name for rule in RULES if rule.default_limit]
OWN = '\n[rules.mine]\nwhen = "loss > 2"\ndo = "notify"\nmode = "act"\n'


@contextlib.contextmanager
def acting(tmp_path, rule):
    """A core in which this rule acts, the clock, and what people were told."""
    run = rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")
    run.sitter_toml.write_text(OWN if rule == "mine" else f'[rules.{rule}]\nmode = "act"\ndelay = "0s"\n')
    clock, told = ManualClock(), []
    with opened(run, clock=clock, notify=lambda *words: told.append(words)) as core:
        core.flow.session("s", (time.time_ns(), time.monotonic_ns()), 1)
        core.life.pid = 1
        yield core, clock, told


def found(rule, n, action, severity="warning"):
    return Finding(rule=rule, severity=severity, step=n, branch=0, onset=n, text=f"trouble {n}", key=f"{rule}:{n}", actions=[action])


def act_until_spent(core, clock, rule, action, first=0):
    """So many times as it may, and no cool-down in between; how many that were."""
    count, seconds = core.dispatcher.settings[rule].limit
    for n in range(count):
        core.dispatcher.finding(found(rule, first + n, action))
        clock.advance(min(seconds, 86400.0) / (count + 2))
    assert core.dispatcher.left(rule) == 0
    return count


def lines(core, rule):
    core.writer.flush()
    with contextlib.closing(Reader(core.run.history)) as reader:
        return [e.detail for e in reader.logbook() if e.rule == rule and e.status == "budget spent"]


@pytest.mark.parametrize("rule", [*LIMITED, "mine"])
def test_every_rule_with_a_limit_says_that_it_is_spent_to_the_logbook_and_to_people(tmp_path, rule):
    with acting(tmp_path, rule) as (core, clock, told):
        guard = core.rules[rule].guard
        action = Rollback() if guard else SetKnob(knob="weight_decay", op="scale", amount=0.5)
        n = act_until_spent(core, clock, rule, action)
        told.clear()
        sent = len(core.orders.standing(type(action)))
        core.dispatcher.finding(found(rule, n, action))
        assert len(core.orders.standing(type(action))) == sent, "it only watches"
        (line,) = lines(core, rule)
        assert core.dispatcher.settings[rule].limit_text in line
        ((event, text, _),) = told
        assert event == ("gave_up" if guard else "acted")
        assert f"trouble {n}; the budget of" in text
        assert core.dispatcher.settings[rule].limit_text in text
        assert bool(core.orders.standing(TakeCheckpoint)) == guard, "what is there is saved"


def test_people_hear_it_once_until_the_rule_has_acted_again(tmp_path):
    with acting(tmp_path, "overfit") as (core, clock, told):
        action = SetKnob(knob="weight_decay", op="scale", amount=0.5)
        n = act_until_spent(core, clock, "overfit", action)
        told.clear()
        for more in range(5):
            core.dispatcher.finding(found("overfit", n + more, action))
            clock.advance(700.0)
        assert len(told) == 1
        assert len(lines(core, "overfit")) == 5, "the logbook hears it each time"
        clock.advance(86400.0)
        act_until_spent(core, clock, "overfit", action, first=50)
        told.clear()
        core.dispatcher.finding(found("overfit", 99, action))
        assert len(told) == 1


def test_the_seventh_stall_of_a_day_is_told_and_every_one_after_it(tmp_path):
    with acting(tmp_path, "stalled") as (core, clock, told):
        action = Notification(event="stalled", text="no step")
        n = act_until_spent(core, clock, "stalled", action)
        assert (n, len(told)) == (6, 6)
        for more in (n, n + 1):
            core.dispatcher.finding(found("stalled", more, action, "critical"))
        assert [event for event, *_ in told[6:]] == ["stalled", "stalled"]
        assert "6 per day, is spent" in told[-1][1]


def test_what_is_no_more_than_a_warning_is_told_once(tmp_path):
    with acting(tmp_path, "gpu_idle") as (core, clock, told):
        action = Notification(event="gpu_idle", text="idle")
        n = act_until_spent(core, clock, "gpu_idle", action)
        for more in range(3):
            core.dispatcher.finding(found("gpu_idle", n + more, action))
        assert len(told) == n + 1
