"""Asked in the wrong way: exit code 2, one sentence that says what was expected, and nothing is made or lost."""

import pytest

WRONG = {
    "frob": "frob",
    "run": "CMD",
    "run --frob -- true": "--frob",
    "run --mode frob -- true": "frob",
    "run --restart -1 -- true": "-1",
    "run --rules nowhere.toml -- true": "nowhere.toml",
    "status --frob": "--frob",
    "logbook -n 0": "0",
    "note": "text",
    "set": "lr=0.5x",
    "set lr": "KNOB=VALUE",
    "set lr=-2x": "above 0",
    "set lr=0.5x --hold": "--hold",
    "rollback --to": "--to",
    "drop": "drop N",
    "drop -1": "-1",
    "pause --frob": "--frob",
    "veto p1 p2": "veto ID",
    "snooze gpu_hot": "DURATION",
    "snooze gpu_hot soon": "soon",
    "snooze gpu_hot -1h": "-1h",
    "mode frob": "watch|guard|act",
    "rules frob": "frob",
    "rules check nowhere.toml": "nowhere.toml",
    "export": "--format",
    "notify": "--test",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_is_told_in_one_sentence(sitter, line, tmp_path):
    assert WRONG[line] in sitter.refused(*line.split(), code=2)
    assert not list(tmp_path.iterdir())


def test_the_command_line_alone_shows_its_help(sitter):
    shown = sitter()
    assert shown.returncode == 2
    assert "rollback" in shown.stdout + shown.stderr
    helped = sitter("rollback", "--help")
    assert helped.returncode == 0
    assert "--replay" in helped.stdout


def test_every_line_of_the_help_is_whole_on_a_small_terminal(sitter):
    """A sentence that ends in "..." helps nobody."""
    for words in ([], ["rules"]):
        helped = sitter(*words, "--help", COLUMNS="80")
        listed = helped.stdout.split("Commands:")[1].splitlines()
        assert len(listed) > 3
        assert not [line for line in listed if line.endswith("...") or len(line) > 80]
        assert all(line.rstrip().endswith(".") for line in listed if line.strip())


def test_attach_without_a_terminal_says_where_the_words_are(sitter, tmp_path):
    assert sitter("run", "--no-ui", "--name", "short", "--", "true").returncode == 0
    said = sitter.refused("attach", code=2, TERM="xterm")
    assert "no terminal" in said
    assert "sitter status" in said


def test_a_demand_too_has_its_page_of_help(sitter):
    done = sitter("snooze", "-h")
    assert done.returncode == 0
    assert "snooze [-r RUN] RULE DURATION" in done.stdout
