"""Rules from sitter.toml: from the text to findings, with the real engine."""

import math
import textwrap

import pytest

from sitter.config import parse
from sitter.control.ruleset.build import build
from sitter.errors import ConfigError
from sitter.model import Finding, GpuNow, Notification
from sitter.rules.base import RECOVERED
from sitter.rules.engine import Engine
from sitter.rules.own.rule import Own
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import DropBatches, Rollback, SetKnob, Stop, TakeCheckpoint
from sitter_wire.events import Restored, SnapshotTaken
from sitter_wire.records import Happening


def made(text: str, name: str = "mine") -> Own:
    rules, _ = build(parse(f"[rules.{name}]\n" + textwrap.dedent(text), "sitter.toml"), "sitter.toml")
    (own,) = [rule for rule in rules if isinstance(rule, Own)]
    return own


class Told:
    """A rule told points, one a step and ten a second."""

    def __init__(self, text: str) -> None:
        self.rule, self.view = made(text), RunView(in_session=True, state="running")
        self.engine = Engine([self.rule], self.view)
        self.step = self.branch = 0

    def losses(self, *values: float) -> list[Finding]:
        found = []
        for value in values:
            found += self.engine.observe(Sample(self.step, self.branch, self.step / 10, {"loss": value}))
            self.step += 1
        return found


def test_it_says_what_it_saw_once_and_when_it_is_over() -> None:
    told = Told('when = "median(loss, 3) > 1.3 * best(loss)"\nfor = "5 steps"')
    assert told.losses(1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0) == []
    found = told.losses(*[2.0] * 10)
    (finding,) = found
    assert finding.rule == "mine"
    assert finding.severity == "warning"
    assert (finding.onset, finding.step) == (4, 9)
    assert finding.text == "median(loss, 3) > 1.3 * best(loss) for 5 steps: loss 2, median(loss, 3) 2, best(loss) 1"
    assert finding.evidence == {"loss": 2.0, "median(loss, 3)": 2.0, "best(loss)": 1.0}
    (over,) = told.losses(*[1.0] * 20)
    assert over.evidence[RECOVERED] == 1
    assert over.key == finding.key
    again = told.losses(*[3.0] * 20)
    assert [f.key == finding.key for f in again] == [False]


def test_what_flutters_around_a_bound_is_one_trouble() -> None:
    told = Told('when = "loss > 2"')
    assert len(told.losses(*[1.0, 3.0] * 50)) == 1


@pytest.mark.parametrize(("lasting", "at"), [("", 0), ("7 steps", 7), ("7 points", 6), ("2s", 20), ("1m", 600)])
def test_how_long_it_must_hold(lasting: str, at: int) -> None:
    told = Told(f'when = "loss > 2"\nfor = "{lasting}"')
    (finding,) = told.losses(*[3.0] * 700)
    assert (finding.onset, finding.step) == (0, at)


def test_a_break_begins_it_anew_and_unknown_is_no_break() -> None:
    told = Told('when = "loss > 2"\nfor = "10 steps"')
    assert told.losses(*[3.0] * 9, 1.0, *[3.0] * 9) == []
    told = Told('when = "1 / (loss - 5) > 2"\nfor = "4 points"')
    (finding,) = told.losses(5.1, 5.1, 5.0, 5.0, 5.1, 5.1)
    assert finding.onset == 0


def test_what_it_proposes_and_in_whose_words() -> None:
    told = Told(
        """
        when = "loss > 2"
        do = ["lr=0.5x", "rollback", "checkpoint", "stop", "drop 200", "notify", "notify come and look"]
        severity = "critical"
        text = "loss {loss:.2f} at step {step}"
        """
    )
    told.losses(*[1.0] * 30)
    (finding,) = told.losses(3.14159)
    said = "loss 3.14 at step 30"
    assert finding.text == said
    assert finding.severity == "critical"
    assert finding.actions == [
        SetKnob(knob="lr", op="scale", amount=0.5),
        Rollback(before=29, why=said),
        TakeCheckpoint(why=said),
        Stop(checkpoint=True, why=said),
        DropBatches(count=200),
        Notification(event="rule", text=said),
        Notification(event="rule", text="come and look"),
    ]


def test_a_restore_takes_its_memory_back_and_not_what_it_has_said() -> None:
    told = Told('when = "mean(loss, 4) > 2"')
    told.losses(*[1.0] * 10)
    told.engine.happened(Happening(0, 10, 0, 0, SnapshotTaken(slot=0, branch=0, step=10, bytes=1, seconds=0.0)))
    (finding,) = told.losses(*[5.0] * 10)
    told.engine.happened(Happening(0, 20, 0, 0, Restored(branch=1, step=10, from_branch=0, left=20, source="snapshot")))
    told.step, told.branch = 10, 1
    assert told.rule.expression.value(told.rule.memory.expression, told.view) is False
    assert [f.key for f in told.losses(*[1.0] * 20)] == [finding.key]  # over, and not found anew


def test_a_rule_of_facts_alone_is_judged_every_second() -> None:
    told = Told('when = "gpu.temp > 80"\nfor = "10s"')
    told.view.gpus = [GpuNow(index=0, uuid="a", name="x", temp=84.0)]
    found = [f for second in range(30) for f in told.engine.tick(float(second))]
    assert [f.text for f in found] == ["gpu.temp > 80 for 10 s: gpu.temp 84"]
    told.view.gpus = []
    assert [f for second in range(30, 60) for f in told.engine.tick(float(second))] == []  # unknown is not over


def test_a_rule_by_the_step_is_judged_at_every_point_also_where_no_second_passes() -> None:
    told = Told('when = "step > 20"\nfor = "5 steps"\ndo = "checkpoint"')
    (finding,) = told.losses(*[1.0] * 40)
    assert (finding.onset, finding.step) == (21, 26)
    assert told.engine.tick(100.0) == []


def test_values_that_are_not_finite_can_be_spoken_of() -> None:
    told = Told('when = "not finite(loss)"')
    (finding,) = told.losses(1.0, math.nan)
    assert finding.text == "not finite(loss): loss nan"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[rules.mine]\nwhen = "medain(loss, 5) > 1"', "[rules.mine] (line 2): no function 'medain' (column 1); did you mean median?"),
        ('[rules.mine]\nwhen = "lss > 1"', "did you mean loss?"),
        ('[rules.mine]\nwhen = "loss > 1"\nfor = "100 stps"', "for = '100 stps': expected steps, points or a length of time"),
        ('[rules.mine]\nwhen = "loss > 1"\ndo = "lr=fast"', "lr: expected a number"),
        ('[rules.mine]\nwhen = "loss > 1"\n\ndo = "rolback"', "(line 4): do = 'rolback': did you mean rollback?"),
        ('[rules.mine]\nwhen = "loss > 1"\ndo = "approve p1"', "that is for a person to do"),
        ('[rules.mine]\nwhen = "loss > 1"\ndo = "unpause"', "that is for a person to do"),
        ('[rules.mine]\nwhen = "loss > 1"\nseverity = "bad"', "(line 3): severity = 'bad', expected one of info, warning, critical"),
        ('[rules.mine]\nwhen = "loss > 1"\ntext = "{lr} is high"', "no value for {lr}: expected one of loss, step"),
        ('[rules.mine]\nwhen = "loss > 1"\ntext = "{loss is high"', "text = "),
        ('[rules.mine]\nwen = "loss > 1"', "has no parameter 'wen' (line 2); did you mean when?"),
        ('[rules.mine]\ndo = "lr=0.5x"', "has no rule 'mine' (line 1): one of your own needs `when`, `every` or `at`"),
        ('[rules.mine]\nwhen = "loss > 1"\nfor = "100"', "(line 3): for = '100': expected steps, points or a length of time"),
        ('[rules.mine]\nwhen = "loss > 1"\nfor = 100', "(line 3): for = 100, expected a text, such as '100 steps'"),
        ('[rules.mine]\nwhen = "loss > 1"\nmode = "Ask"', "mode = 'Ask', expected one of off, watch, ask, act; did you mean ask?"),
        ('[rules.mine]\nwhen = "loss > 1"\nmod = "ask"', "(line 3); did you mean mode?"),
        ('[rules.mine]\nwhen = "loss > 1"\n\nlimit = "3/day"', "(line 4): limit = '3/day', expected a number per minute"),
        ('[rules.mine]\nwhen = "loss > 1"\nevery = "2h"', "(line 3): expected one of `when`, `every` and `at`, found every beside another"),
        ('[rules.mine]\nwhen = "loss > 1"\nrule_files = ["a.py"]', "(line 3): rule_files belongs at the top of the file"),
        ('[rules.mine]\nwhen = "loss > 1"\ndo = "lr*0.5"', "(line 3): do = 'lr*0.5': expected an action such as lr=0.5x"),
        ('[rules.mine]\nwhen = "loss > 1"\ndo = "lr=0.5x, checkpoint"', "several stand in a list"),
        ('[rules.mine]\nwhen = "loss"', "'loss' is no condition: expected a comparison, such as loss > 3"),
        ('[rules.mine]\nwhen = "loss > 1 and step"', "is no condition"),
        ('[rules.mine]\nwhen = "1 > 0"', "'1 > 0' names no signal and no fact"),
        ('[mine]\nwhen = "loss > 1"', "(line 1): [mine] is a rule: expected [rules.mine]"),
        ('[rules.mine]\nwhen = "signal("a/b") > 1"', "mend that line: a text with quotes in it stands between ' and '"),
        ('[rules.mine]\nwhen = "loss > 1"\nfro = "5 steps"', "has no parameter 'fro' (line 3); did you mean for?"),
        ('[rules."mine/yours"]\nwhen = "loss > 1"', "expected letters, digits, _ and -"),
        ('[rules.guard]\nwhen = "loss > 1"', "(line 2): guard is a rule of sitter's; give yours another name"),
        ("[rules.mine]\nwhen = 3", "[rules.mine] (line 2): when = 3, expected a text, such as 'loss > 3'"),
    ],
)
def test_a_wrong_one_is_refused_with_its_line_and_the_nearest_right_name(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(parse(text, "sitter.toml"), "sitter.toml")
    assert says in str(refused.value)


def test_modes_budgets_and_delays_are_those_of_every_rule() -> None:
    text = '[rules.mine]\nwhen = "loss > 1"\nmode = "act"\ndelay = "60s"\nlimit = "2 per hour"\n[rules.other]\nwhen = "loss > 2"'
    _, chosen = build(parse(text, "x"), "x")
    assert (chosen["mine"].mode, chosen["mine"].delay, chosen["mine"].limit) == ("act", 60.0, (2, 3600.0))
    assert (chosen["other"].mode, chosen["other"].limit_text) == ("ask", "6 per day")


def test_it_says_once_that_it_waits_for_what_nobody_logs() -> None:
    told = Told('when = "loss > 2 and perplexity > 9"')
    told.losses(1.0)
    found = [f for second in range(4000) for f in told.engine.tick(float(second))]
    said = "waits for perplexity, which has not been logged for 30 m: it says nothing until then"
    assert [(f.severity, f.text) for f in found] == [("info", said)]
