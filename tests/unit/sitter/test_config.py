"""sitter.toml: what is wrong, where, and what would be right."""

import pytest

from sitter.config import Config, _lines, load, parse, parse_limit
from sitter.control.ruleset.build import build
from sitter.errors import ConfigError


def test_no_file_means_the_defaults(tmp_path):
    assert load(tmp_path / "sitter.toml") == Config()


def test_everything_that_can_be_said(tmp_path):
    config = parse(
        'mode = "act"\n[rules.gpu_hot]\nmode = "act"\ndelay = "2m"\nlimit = "3 per day"\ncelsius = 88\n'
        '[notify.me]\nkind = "command"\ncommand = "cat"\nevents = ["crashed"]\n[checkpoints]\nhealthy_steps = 50\n',
        "sitter.toml",
    )
    assert config.mode == "act"
    assert (config.rules["gpu_hot"].delay, config.rules["gpu_hot"].params) == (120.0, {"celsius": 88})
    assert config.notify[0].name == "me"
    assert config.checkpoints.healthy_steps == 50


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mode = ", "is not TOML"),
        ("mode = 'gaurd'", "expected one of watch, guard, act"),
        ("mdoe = 'guard'", "did you mean mode"),
        ("rules = 3", "expected a table"),
        ("[rules.x]\nmode = 'on'", "expected one of off, watch, ask, act"),
        ("[rules.x]\ndelay = 'soon'", "expected a length of time"),
        ("[rules.x]\ndelay = -5", "expected a length of time"),
        ("[rules.x]\nlimit = 'often'", "such as '3 per day'"),
        ("[rules.x]\nthreshold = {a = 1}", "expected a number"),
        ("[notify.a]\nurl = 'x'", "has no kind"),
        ("[notify.a]\nkind = 'ntfy'\nurll = 'x'", "did you mean url"),
        ("[checkpoints]\nhealthy_steps = 'many'", "checkpoints"),
    ],
)
def test_each_mistake_is_one_clear_sentence(text, says):
    with pytest.raises(ConfigError, match=says) as raised:
        parse(text, "my.toml")
    assert "my.toml" in str(raised.value)


def test_a_file_may_begin_with_a_mark_and_have_lines_of_windows(tmp_path):
    (tmp_path / "sitter.toml").write_bytes(b'\xef\xbb\xbfmode = "act"\r\n[rules.gpu_hot]\r\ncelsius = 88\r\n')
    assert load(tmp_path / "sitter.toml").mode == "act"
    assert parse((tmp_path / "sitter.toml").read_text(encoding="utf-8"), "x").lines["rules.gpu_hot.celsius"] == 3


def test_limits():
    assert parse_limit("3 per hour", "") == (3, 3600.0)
    assert parse_limit("", "") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# mine\n\nmdoe = 'guard'", r"has no setting 'mdoe' \(line 3\); did you mean mode\?"),
        ("[rules.gpu_hot]\nmode = 'ask'\n[chekpoints]\n", r"'chekpoints' \(line 3\); did you mean checkpoints"),
        ("[checkpoints] # of mine\n\n  healthy_step = 3", r"'healthy_step' \(line 3\); did you mean healthy_steps"),
        ("notify.a.kind = 'ntfy'\nnotify.a.urll = 'x'", r"'urll' \(line 2\); did you mean url"),
        ("[restart]\n'pauses' = 3", r"'pauses' \(line 2\); did you mean pause"),
        ("\nmode = 'gaurd'", r"\(line 2\): mode = 'gaurd', expected one of watch, guard, act; did you mean guard\?"),
        ("[checkpoints]\nhealthy_steps = '100'", r"\[checkpoints\] \(line 2\): healthy_steps = '100', expected a whole number"),
        ("restart = {pauses = 3}", r"'pauses'; did you mean pause"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_its_line(text, says):
    with pytest.raises(ConfigError, match=says):
        parse(text, "my.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n[rules.gpu_hott]\nmode = 'ask'", r"has no rule 'gpu_hott' \(line 2\); did you mean gpu_hot"),
        ("[rules.gpu_hot]\n\ncelsius = '80'", r"\[rules.gpu_hot\] \(line 3\): celsius = '80', expected a number"),
        ("[rules.gpu_hot]\nmode = 'ask'\ncelsiu = 80", r"has no parameter 'celsiu' \(line 3\); did you mean"),
    ],
)
def test_so_are_rules_and_their_parameters(text, says):
    with pytest.raises(ConfigError, match=says):
        build(parse(text, "my.toml"), "my.toml")


@pytest.mark.parametrize("row", [" " * 100_000, "a" * 100_000, "a " * 50_000, '"a".' * 25_000])
def test_a_long_line_takes_no_longer_than_a_long_text(row):
    """Looked for with a pattern that tries every way to split it, 4,000 spaces took two minutes."""
    assert _lines(f"mode = 'guard'\n{row}\n[restart]\npause = 3\n") == {"mode": 1, "restart": 3, "restart.pause": 4}


def test_a_file_that_is_no_text_is_not_said_to_lack_permissions(tmp_path):
    path = tmp_path / "sitter.toml"
    path.write_bytes(b'mode = "\xff"\n')
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(invalid start byte at byte 8\); save it as that"):
        load(path)
