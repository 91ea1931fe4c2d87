"""What was done to one run, as rules for another."""

import pytest

from sitter.config import parse
from sitter.control.ruleset.build import build
from sitter.report.interventions import interventions
from sitter.report.repeat import toml
from sitter.rules.own.schedule import Scheduled
from sitter_wire.commands import DropBatches, Rollback, SetKnob, TakeCheckpoint
from sitter_wire.events import KnobChanged
from tests.unit.sitter.report.conftest import Past


def test_the_rules_do_the_same_at_the_same_steps(troubled: Past) -> None:
    troubled.event(KnobChanged(knob="lr", old=1e-3, new=3e-4, scale=0.3, by="rule:guard"), 399, 1)
    text = toml("char-lm", interventions(troubled.done()))
    rules, chosen = build(parse(text, "x"), "x")
    own = [rule for rule in rules if isinstance(rule, Scheduled)]
    assert [(rule.params.at, rule.params.branch, *rule.actions) for rule in own] == [
        (299, 0, SetKnob(knob="lr", op="scale", amount=0.5)),
        (299, 0, DropBatches(count=3)),
        (399, 0, TakeCheckpoint(why="")),  # else a state of exactly that step would be there by chance only
        (419, 0, Rollback(to=399)),
        (399, 1, SetKnob(knob="lr", op="scale", amount=0.3)),
    ]
    assert {(chosen[rule.name].mode, chosen[rule.name].limit) for rule in own} == {("act", None)}
    assert "# step 299, branch 0: pause" in text
    assert "loss 11 × its usual level | at step 415" in text


def test_all_digits_are_kept_where_the_logbook_has_six(past: Past) -> None:
    past.steps(0, 100)
    past.outcome(50, 0, "set lr=0.00123457", "lr", old=1e-3, new=0.00123456789)
    past.outcome(60, 0, "set lr=1.33333x", "lr", old=3.0e-4, new=4.0e-4)
    past.outcome(70, 0, "set lr@head=3e-4 --hold", "lr", old=0.3, new=0.1)
    rules, _ = build(parse(toml("x", interventions(past.done())), "x"), "x")
    actions = [rule.actions[0] for rule in rules if isinstance(rule, Scheduled)]
    assert [action.amount for action in actions] == [0.00123456789, pytest.approx(4 / 3, rel=1e-11), 3e-4]
    assert (actions[2].group, actions[2].hold) == ("head", True)


def test_what_others_wrote_stays_in_its_line(troubled: Past) -> None:
    troubled.line("finding", step=600, branch=2, rule="mine", status="warning", detail='a\n[rules.guard]\nmode = "off"\x1b[2J')
    troubled.outcome(650, 2, "set lr=0.5x", "lr", rule="mine", old=1.0, new=0.5)
    text = toml("x\nmode = 'act'", interventions(troubled.done()))
    config = parse(text, "x")
    assert config.mode == "guard"
    assert "guard" not in config.rules


def test_a_run_that_nobody_touched(past: Past) -> None:
    past.steps(0, 10)
    text = toml("x", interventions(past.done()))
    assert "Nothing was done" in text
    assert parse(text, "x").rules == {}
