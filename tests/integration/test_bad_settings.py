"""A sitter.toml that does not parse, or names what is not there: told with its place, before anything is made or started."""

import sys

import pytest

from sitter_wire.places import RunDir

QUICK = """
    import sitter_agent
    agent = sitter_agent.start()
    for step in agent.steps(50):
        agent.log(loss=1.0)
    print("trained to the end")
"""

WRONG = {
    "mode = guard": "line 1",
    'mod = "guard"': "did you mean mode",
    'mode = "brave"': "watch, guard, act",
    "[rules.gpu_hott]\nmode = 'ask'": "did you mean gpu_hot",
    "[rules.gpu_hot]\ncelcius = 90": "did you mean celsius",
    "[rules.gpu_hot]\ncelsius = 'hot'": "celsius",
    "[rules.gpu_hot]\nmode = 'perhaps'": "perhaps",
    "[rules.gpu_hot]\ndelay = 'soon'": "soon",
    "[rules.gpu_hot]\nlimit = 'often'": "3 per day",
    "[notify.phone]\nurl = 'https://example.org'": "no kind",
    "[notify.phone]\nkind = 'pigeon'": "pigeon",
    "[checkpoints]\nhealthy_steps = 'many'": "healthy_steps",
    "[checkpoints]\nhealthy = 3": "did you mean healthy_steps",
    "rules = 3": "rules",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_told_with_its_place(sitter, tmp_path, text):
    (tmp_path / "mine.toml").write_text(text)
    said = sitter.refused("rules", "check", "mine.toml", code=2)
    assert "mine.toml" in said
    assert WRONG[text] in said


def test_a_run_is_not_begun_with_wrong_settings(sitter, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("[rules.gpu_hott]\nmode = 'ask'\n")
    said = sitter.refused("run", "--rules", "mine.toml", "--no-ui", "--", "touch", "started", code=2)
    assert "did you mean gpu_hot" in said
    mine.rename(tmp_path / "sitter.toml")  # the one that lies where the training is started is meant without being named
    assert "did you mean gpu_hot" in sitter.refused("run", "--no-ui", "--", "touch", "started", code=2)
    (tmp_path / "sitter.toml").write_bytes(b"mode = '\xff'")
    assert "sitter.toml" in sitter.refused("run", "--no-ui", "--", "touch", "started", code=2)
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "sitter-runs").exists()


def test_rules_check_says_what_is_right(sitter, tmp_path):
    (tmp_path / "mine.toml").write_text("mode = 'watch'\n[rules.gpu_hot]\ncelsius = 80\n")
    done = sitter("rules", "check", "mine.toml")
    assert done.returncode == 0
    assert "mode watch, 1 rule set" in done.stdout


def test_a_plain_script_trains_on_beside_wrong_settings_and_says_that_nobody_watches(sitter, script, start, tmp_path):
    (tmp_path / "sitter.toml").write_text("[rules.gpu_hott]\nmode = 'ask'\n")
    training = start(sys.executable, "-u", str(script(QUICK)))
    said = training.communicate(timeout=100)[0].splitlines()
    assert training.returncode == 0
    assert "trained to the end" in said
    line = next(row for row in said if "nobody is watching" in row)
    assert "did you mean gpu_hot" in line
    assert "Traceback" not in "".join(said)

    # It may be looked at all the same, and the sentence says what is wrong; what is changed waits until they are right.
    status = sitter.status()
    assert status["step"] == 50
    assert any("did you mean gpu_hot" in warning for warning in status["warnings"])
    assert "did you mean gpu_hot" in sitter.refused("mode", "act", code=2)
    (run,) = (tmp_path / "sitter-runs").iterdir()
    RunDir(run).sitter_toml.write_text("[rules.gpu_hot]\nmode = 'ask'\n")
    status = sitter.status()
    assert status["signals"]["loss"]["last"] == 1.0
    assert status["step"] == 50


def test_settings_that_went_wrong_during_the_run_are_told_by_whoever_starts_the_next_daemon(sitter, script, start, tmp_path):
    slow = QUICK.replace("50", "1_000_000").replace("agent.log(", "time.sleep(0.002); agent.log(").replace("import s", "import time, s")
    training = start(sys.executable, "-u", str(script(slow)), SITTER="off")
    assert "SITTER=off" in training.stdout.readline()
    (run,) = (tmp_path / "sitter-runs").iterdir()
    (run / "sitter.toml").write_text("mode = 'brave'")
    assert "watch, guard, act" in sitter.refused("set", "lr=0.5x", code=2)
    assert training.poll() is None
    (run / "sitter.toml").unlink()
    assert sitter("note", "it goes on").returncode == 0
    assert sitter.until(lambda s: s["step"])["daemon"] is not None
