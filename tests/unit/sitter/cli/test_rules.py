"""``sitter rules`` before there is any run, and what it says of each rule."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sitter.cli.rules import command
from sitter.rules.catalogue import RULES
from sitter.rules.meanings import meanings

OWN = '[rules.too_high]\nwhen = "loss > 3"\nfor = "100 steps"\ndo = ["lr=0.5x", "notify"]\nmode = "act"\ndelay = "60s"\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a run, of somebody who has none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sitter.paths.registry", lambda: tmp_path / "registry")
    return tmp_path


def said(*words: str) -> Result:
    return CliRunner().invoke(command, list(words), standalone_mode=False, catch_exceptions=False)


def test_the_rules_can_be_read_before_the_first_run(place: Path) -> None:
    (place / "sitter.toml").write_text(OWN + "[rules.gpu_hot]\ncelsius = 70\n")
    listed = said("list").output.splitlines()
    assert [line.split()[0] for line in listed] == [*(kind.name for kind in RULES), "too_high"]
    assert "celsius = 70" in said("show", "gpu_hot").output
    assert "loss > 3" in said("show", "too_high").output


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_every_parameter_says_what_it_means(kind) -> None:
    assert set(meanings(kind.name)) == set(kind.Params.__struct_fields__)


def test_a_page_fits_into_a_narrow_terminal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for kind in RULES:
        assert max(map(len, said("show", kind.name).output.splitlines())) <= 80


def test_check_says_how_a_rule_of_ones_own_was_understood(place: Path) -> None:
    (place / "sitter.toml").write_text(OWN)
    assert "  too_high: loss > 3 for 100 steps → lr × 0.5, then notify; unasked, 1 m later" in said("check", "sitter.toml").output
