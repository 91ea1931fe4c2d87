"""``sitter replay`` on a CSV: what it says of what it cannot judge, and that it says nothing else."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sitter.cli.replay import command

RULES = """
[rules.late]
when = "step > 20"
[rules.hourly]
every = "2h"
do = "checkpoint"
[rules.friday]
at = "Fri 18:00"
do = "checkpoint"
[rules.warm]
when = "gpu.temp > 80"
[rules.often]
every = "10 steps"
do = "checkpoint"
"""


def replayed(place: Path, header: str, *words: str) -> Result:
    (place / "rules.toml").write_text(RULES)
    (place / "run.csv").write_text(header + "".join(f"{step},2.0\n" for step in range(40)))
    told = [str(place / "run.csv"), "--rules", str(place / "rules.toml"), *words]
    return CliRunner().invoke(command, told, standalone_mode=False, catch_exceptions=False)


def test_what_needs_a_clock_is_said_to_say_nothing_where_there_is_none(tmp_path: Path) -> None:
    done = replayed(tmp_path, "step,loss\n", "--json")
    assert done.stderr.strip().endswith("goes by the clock or the machine says nothing: hourly, friday, warm")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["step"], line["rule"]) for line in lines] == [(10, "often"), (20, "often"), (21, "late"), (30, "often")]
    assert list(lines[0]) == ["step", "onset", "rule", "severity", "mode", "acts", "action", "evidence", "text"]


def test_where_the_terminal_has_no_utf8_every_line_is_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sitter.cli.replay.UTF", ())
    done = replayed(tmp_path, "step,loss\n")
    assert " asks " in done.stdout
    assert done.stdout.isascii()


def test_a_file_without_a_value_is_not_called_well(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("step,loss\n1,\n")
    done = CliRunner().invoke(command, [str(tmp_path / "run.csv")], standalone_mode=False, catch_exceptions=False)
    assert done.stdout == "run.csv: no value is in it, so there was nothing to tell the rules\n"
