"""``sitter replay`` as a person types it: a CSV, a run that really ran, and the wrong things."""

import sys

import pytest

TRAINING = """
    import sitter_agent, time
    weight = {"w": 1.0}
    agent = sitter_agent.start(name="x", daemon=True)
    agent.state(save=lambda: dict(weight), load=weight.update)
    for step in agent.steps(600):
        weight["w"] *= 0.9999
        agent.log(loss=float("nan") if step == 400 else 2.0 + weight["w"])
        time.sleep(0.002)
"""


@pytest.fixture
def losses(tmp_path):
    """A CSV of a healthy run with one NaN."""
    rows = [f"{step},{'nan' if step == 400 else 2.0 + 0.01 * (step % 7)},{3e-4}" for step in range(1000)]
    path = tmp_path / "run.csv"
    path.write_text("step,train_loss,lr\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_csv_is_told_and_each_finding_is_a_line(sitter, losses):
    lines = sitter.lines("replay", str(losses))
    first = next(line for line in lines if line["severity"] == "critical")
    assert list(first) == ["step", "onset", "rule", "severity", "mode", "acts", "action", "evidence", "text"]
    assert (first["step"], first["rule"], first["acts"], first["action"]) == (400, "guard", True, "rollback")
    assert first["evidence"]["value"] == "nan"


def test_a_person_sees_the_sums_the_curve_and_what_was_found(sitter, losses):
    done = sitter("replay", str(losses))
    assert done.returncode == 0
    assert done.stdout.startswith("run.csv: steps 0 to 999 · loss 2 → 2.")
    assert "would have acted 1 × unasked" in done.stdout
    assert "✖" in done.stdout
    assert "loss is nan" in done.stdout


def test_rules_of_ones_own_are_tried_before_they_are_trusted(sitter, losses, tmp_path):
    (tmp_path / "mine.toml").write_text('[rules.mine]\nwhen = "mean(loss, 10) > 2.02"\nfor = "20 steps"\ndo = "lr=0.5x"\n')
    lines = [line for line in sitter.lines("replay", str(losses), "--rules", "mine.toml") if line["rule"] == "mine"]
    assert lines[0]["mode"] == "ask"
    assert not lines[0]["acts"]
    assert lines[0]["action"] == "set lr=0.5x"


def test_a_run_that_ran_is_judged_as_it_was(sitter, script, start):
    training = start(sys.executable, "-u", str(script(TRAINING)), SITTER_MODE="watch")
    training.wait(timeout=100)
    sitter.until(lambda s: s["state"] == "finished")
    live = [(e["step"], e["rule"], e["detail"]) for e in sitter.lines("logbook") if e["kind"] == "finding"]
    assert any(rule == "guard" for _, rule, _ in live)
    told = [(line["step"], line["rule"], line["text"]) for line in sitter.lines("replay", "x")]
    assert [finding for finding in live if finding[1] == "guard" and finding not in told] == []


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["replay", "none.csv"], "no file none.csv", 2),
        (["replay", "nothing"], "nothing", 1),
        (["replay", "bad.csv"], "has no column `step`", 2),
        (["replay", "cut.csv"], "cut.csv, line 3: expected numbers", 2),
        (["replay", "run.csv", "--rules", "none.toml"], "cannot read none.toml", 2),
        (["replay", "run.csv", "--rules", "wrong.toml"], "did you mean median?", 2),
    ],
)
def test_the_wrong_things_end_in_one_sentence(sitter, losses, tmp_path, words, says, code):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "cut.csv").write_text("step,loss\n1,2\n2,x\n")
    (tmp_path / "wrong.toml").write_text('[rules.mine]\nwhen = "medain(loss, 5) > 1"\n')
    assert says in sitter.refused(*words, code=code)
