"""``sitter rules`` before there is any run, and what it says of each rule."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sitter.cli.rules import command
from sitter.clock import SystemClock
from sitter.rules.catalogue import RULES
from sitter.rules.meanings import meanings
from sitter.store.writer import Writer
from sitter_wire import rundir
from sitter_wire.events import KnobDeclared, KnobSpec
from sitter_wire.places import RunDir
from sitter_wire.records import Happening

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


def test_check_says_all_that_is_wrong_at_once_each_with_its_line(place: Path) -> None:
    (place / "sitter.toml").write_text(
        'mdoe = "act"\nrule_files = ["nowhere.py"]\n'
        '[rules.gpu_hot]\nmode = "on"\ndelay = "soon"\nlimit = "often"\ncelsuis = 3\ncelsius = "x"\n'
        '[rules.mine]\nwhen = "los > "\nfor = "100"\ndo = "lrr"\n[rules.two]\nwhen = 5\n'
        '[too]\nwhen = "loss > 3"\n[notify.a]\nkind = "ntfyy"\n[notify.b]\nurll = "x"\n'
        '[checkpoints]\nhealthy_step = 3\n[restart]\npause = "x"\n'
    )
    result = said("check", "sitter.toml")
    assert result.return_value == 2
    wanted = (
        "'mdoe' (line 1)", "(line 2): no file nowhere.py", "(line 4): mode = 'on'", "(line 5): delay", "(line 6): limit",
        "'celsuis' (line 7)", "(line 8): celsius = 'x'", "(line 10): 'los >' is no expression", "(line 11): for = '100'",
        "(line 12): do = 'lrr'", "(line 14): when = 5", "(line 15): [too] is a rule", "no kind 'ntfyy'", "[notify.b] has no setting 'urll'",
        "[notify.b] has no kind", "'healthy_step'", "[restart] pause = 'x'",
    )  # fmt: skip
    lines = result.stderr.splitlines()
    assert [text for text in wanted if not any(text in line for line in lines)] == []
    assert len(lines) == len(wanted), "and each of them once"


def test_check_tells_every_case_of_rules_in_python_that_does_not_say_what_it_should(place: Path) -> None:
    (place / "sitter.toml").write_text('rule_files = ["mine.py"]\n')
    (place / "mine.py").write_text(
        "from sitter.rules.base import Case, Rule\n\n\nclass Mine(Rule):\n"
        '    """Nothing."""\n\n    name, title = "mine", "of mine"\n    FIRES = (Case("a", tuple, says="x"), Case("b", tuple))\n'
    )
    assert [line.partition("case ")[2] for line in said("check", "sitter.toml").stderr.splitlines()] == [
        "'a': expected a finding that says 'x', found none", "'b': expected a finding that says '', found none",
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["sitter-runs/one/sitter.toml", "sitter.toml"])
def test_check_knows_the_knobs_that_the_run_has_named(place: Path, where: str) -> None:
    run = RunDir(place / "sitter-runs" / "one")
    run.recorder.mkdir(parents=True)
    rundir.write(run, rundir.RunInfo(name="one", created="2026-01-01T00:00:00+00:00"))
    writer = Writer(run.history, on_commit=lambda _: None, clock=SystemClock())
    writer.start()
    writer.session("s", 0, 0)
    writer.records("s", [Happening(1, 0, 0, 0, KnobDeclared(spec=KnobSpec(name="lr_d", low=1e-6, high=1.0)))])
    assert writer.close()
    (place / where).write_text('[rules.a]\nwhen = "loss > 3"\ndo = ["lrd=0.5x", "lr_d=0.5x"]\n')
    result = said("check", where)
    assert result.return_value == 0
    (line,) = result.output.splitlines()[2:]
    assert line.startswith("  but a sets lrd, which run one does not have (it has lr_d); it is refused where")
    assert line.endswith("no such knob: did you mean lr_d?")


def test_check_says_of_a_knob_that_nobody_knows_yet_when_it_is_looked_up(place: Path) -> None:
    (place / "sitter.toml").write_text('[rules.a]\nwhen = "loss > 3"\ndo = ["lrr=0.5x", "lr=0.5x"]\n')
    (line,) = [line for line in said("check", "sitter.toml").output.splitlines() if line.startswith("  but")]
    assert line.startswith("  but a sets lrr, and no run has named its knobs yet; it is refused where")
    assert line.endswith("no such knob: did you mean lr?")


def test_a_deadline_that_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[rules.deadline]\nhours = 2.0\ndeadline = "Sut 09:00"\n')
    done = CliRunner().invoke(command, ["check", str(tmp_path / "a.toml")], standalone_mode=False, catch_exceptions=False)
    assert "[rules.deadline] (line 3): deadline = 'Sut 09:00': expected `Sat 09:00`" in done.stderr
