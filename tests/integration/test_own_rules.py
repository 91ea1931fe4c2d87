"""A rule of the user's own beside a real training: checked, found, asked, approved, done."""

import sys
from itertools import pairwise

from sitter.rules.own.expression import FUNCTIONS

TRAINING = """
    import sitter_agent, time
    rate = {"lr": 0.1}
    agent = sitter_agent.start(name="x")
    agent.knob("lr", get=lambda: rate["lr"], set=lambda v: rate.update(lr=v), low=1e-6, high=10.0, scale="log")
    for step in agent.steps(100_000):
        agent.log(loss=2.0 if step < 100 else 3.0, lr=rate["lr"])
        time.sleep(0.003)
"""

RULE = """
[rules.too_high]
when = "median(loss, 20) > 1.3 * best(loss)"
for = "50 steps"
do = "lr=0.5x"
text = "loss {loss:.1f} for 50 steps"
"""


def test_it_asks_with_its_own_words_and_what_it_proposes_is_done(sitter, script, start, tmp_path):
    (tmp_path / "sitter.toml").write_text(RULE)
    assert "is right" in sitter("rules", "check", "sitter.toml").stdout
    start(sys.executable, "-u", str(script(TRAINING)))
    status = sitter.until(lambda s: any(p["finding"]["rule"] == "too_high" for p in s["proposals"]))
    (proposal,) = [p for p in status["proposals"] if p["finding"]["rule"] == "too_high"]
    assert proposal["finding"]["text"] == "loss 3.0 for 50 steps"
    assert status["verdict"] == "NEEDS YOU"
    page = sitter("rules", "show", "too_high").stdout
    assert "median(loss, 20) > 1.3 * best(loss)" in page
    assert 'for = "50 steps"' in page
    assert sitter("approve", proposal["id"]).returncode == 0
    sitter.until(lambda s: s["knobs"]["lr"]["scale"] == 0.5)
    (outcome,) = [line for line in sitter.lines("logbook") if line["kind"] == "outcome" and line["action"] == "set lr=0.5x"]
    assert outcome["status"] == "applied", "what came of it, 200 points later, is a line of its own"
    history = sitter("rules", "show", "too_high").stdout.partition("in this run:")[2]
    assert [line.split()[2] for line in history.splitlines()[1:4]] == ["finding", "proposal", "proposal"]
    assert "set lr" in history or "lr 0.1 → 0.05" in history

    # While it runs: the file is read anew, also a wrong one, which changes nothing.
    settings = tmp_path / "sitter-runs" / "x" / "sitter.toml"
    settings.write_text(RULE + '[rules.long]\nwhen = "step > 50"\n')
    sitter.until(lambda s: any(r["name"] == "long" for r in sitter.lines("rules", "list")))
    settings.write_text('[rules.long]\nwhen = "stepp >"\n')
    sitter.until(lambda s: any("the rules stay as they are" in text for text in s["warnings"]))


def test_what_it_may_ask_is_listed(sitter):
    said = sitter("rules", "functions").stdout
    assert [name for name in FUNCTIONS if name not in said] == []
    assert "gpu0.temp" in said


def test_a_wrong_one_is_refused_before_anything_starts(sitter, script, tmp_path):
    script(TRAINING)
    (tmp_path / "wrong.toml").write_text('[rules.mine]\nwhen = "medain(loss, 20) > 1"\n')
    assert "(line 2): no function 'medain'" in sitter.refused("rules", "check", "wrong.toml", code=2)
    assert "(line 2): no function 'medain'" in sitter.refused("run", "--rules", "wrong.toml", "--", sys.executable, "train.py", code=2)
    assert not (tmp_path / "sitter-runs").exists()


WARMED = """
[rules.cut]
when = "odd > 0"
for = "20 steps"
do = "lr=0.5x"
mode = "act"
warmup = "100 steps"
back_after = "150 steps"
"""


def test_a_cut_is_warmed_up_and_given_back_by_its_rule_and_every_change_says_why(sitter, script, start, tmp_path):
    (tmp_path / "sitter.toml").write_text(WARMED)
    training = TRAINING.replace("loss=2.0 if step < 100 else 3.0,", "loss=2.0 + 1e-3 * (step % 7), odd=float(100 <= step < 150),")
    start(sys.executable, "-u", str(script(training)))
    sitter.until(lambda s: (s["step"] or 0) > 250)  # it is cut, or whole again: who looks may come too late for any of the values between
    sitter.until(lambda s: s["knobs"]["lr"]["scale"] > 0.99 and len([e for e in sitter.lines("logbook") if e["kind"] == "outcome"]) >= 13)
    lines = sitter.lines("logbook")
    why = [line["detail"] for line in lines if line["kind"] == "command" and line["status"] == "sent" and line["rule"] == "cut"]
    done = [line for line in lines if line["kind"] == "outcome" and line["status"] == "applied" and line["rule"] == "cut"]
    assert len(why) == len(done) == 13
    assert why[0].startswith("set lr=0.5x: odd > 0 for 20 steps")
    assert all(text.startswith("warm-up after lr 0.1 → 0.05 at step ") for text in why[1:-1])
    assert "healthy steps in a row: lr 0.1 → 0.05 of step" in why[-1]
    stages = [line["step"] for line in done[1:-1]]
    assert all(earlier <= later for earlier, later in pairwise(stages))
    assert stages[-1] - stages[0] >= 100
    assert done[-1]["step"] - stages[-1] >= 150


PYTHON = '''
from sitter.rules.base import Case, Rule
from sitter.rules.view import Sample

def losses(value):
    return lambda: (Sample(step, 0, float(step), {"loss": value}) for step in range(5))

class Odd(Rule):
    """The loss is above two."""

    name, title, signals = "odd", "odd loss", ("loss",)

    def observe(self, sample, view):
        if sample.values["loss"] > 2:
            return self.found("warning", "it is odd", step=sample.step, branch=sample.branch)

    FIRES = (Case("high", losses(3.0), says="odd"),)
    QUIET = (Case("low", losses(BOUND)),)
'''


def test_a_rule_in_python_is_told_its_cases_before_it_is_trusted(sitter, tmp_path):
    (tmp_path / "sitter.toml").write_text('rule_files = ["mine.py"]\n')
    (tmp_path / "mine.py").write_text(PYTHON.replace("BOUND", "1.0"))
    assert "2 cases of rules in Python told" in sitter("rules", "check", "sitter.toml").stdout
    (tmp_path / "mine.py").write_text(PYTHON.replace("BOUND", "2.5"))
    assert "rule odd, case 'low': expected no finding, found it is odd" in sitter.refused("rules", "check", "sitter.toml", code=2)
