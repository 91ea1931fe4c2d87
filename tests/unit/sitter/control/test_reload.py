"""The rules read anew while the daemon lives."""

import os
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitter.clock import SystemClock
from sitter.config import load, parse
from sitter.control.core import Core
from sitter.control.reload import Reload, reload
from sitter.control.ruleset.build import build
from sitter.errors import ConfigError
from sitter.paths import look
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire import rundir
from sitter_wire.events import SessionStart
from sitter_wire.records import Happening, Point

MINE = '[rules.mine]\nwhen = "mean(loss, 20) > 1"\ndo = "checkpoint"\n'

PYTHON = '''
"""Rules of my own."""
from sitter.rules.base import Rule

class Odd(Rule):
    """The loss is above its bound."""

    name = "odd"
    title = "odd loss"
    signals = ("loss",)

    class Params(Rule.Params, frozen=True):
        """When."""

        bound: float = 1.5

    def fresh(self):
        return 0

    def observe(self, sample, view):
        self.memory = (self.memory or 0) + 1
        if sample.values["loss"] > self.params.bound and not view.late:
            return self.found("warning", f"loss {sample.values['loss']:g}", step=sample.step, branch=sample.branch)
'''


class Daemon:
    """A run's core with a real history, told a point a step, and what reads its rules anew."""

    def __init__(self, place: Path, text: str = "") -> None:
        (place / "sitter.toml").write_text(text)
        os.chdir(place)
        self.run = rundir.create(place, "t", command=["x"], supervised=False, sockets="", version="0")
        self.writer = Writer(self.run.history, on_commit=lambda _: None, clock=SystemClock())
        self.writer.start()
        self.reader = Reader(self.run.history)
        self.core = Core(
            run=self.run, info=look(self.run).info, config=load(self.run.sitter_toml), preset="guard", clock=SystemClock(),
            writer=self.writer, reader=self.reader, send=lambda _: True, notify=lambda *_: None, on_gone=lambda: None,
        )  # fmt: skip
        self.core.life.pid = 1
        self.core.life.look = lambda: None
        self.reload: Reload = reload(self.core, self.reader)
        self.core.flow.session("s", (time.time_ns(), time.monotonic_ns()))
        self.seq = self.step = 0
        self._take(Happening(1, 0, 0, time.monotonic_ns(), SessionStart(pid=1, host="h", branch=0)))

    def _take(self, *records: object) -> None:
        self.seq += len(records)
        self.core.flow.records("s", self.core.intake.take_read("s", list(records)))

    def steps(self, n: int, loss: float = 2.0) -> None:
        for _ in range(n):
            self._take(Point(self.seq + 1, self.step, 0, time.monotonic_ns(), ("loss",), (loss + 1e-3 * (self.step % 7),)))
            self.step += 1

    def says(self, text: str, name: str = "sitter.toml") -> None:
        """The file holds this now; another stamp, however coarse the file system's clock."""
        path = self.run.path / name
        path.write_text(text)
        stamp = path.stat().st_mtime_ns + 10**9 * (self.seq + 1)
        os.utime(path, ns=(stamp, stamp))
        self.writer.flush()
        self.look_twice()

    def look_twice(self) -> None:
        """At files that stay as they are."""
        self.reload.tick()
        self.reload.tick()

    def logbook(self, kind: str) -> list[str]:
        self.writer.flush()
        return [line.detail for line in self.reader.logbook() if line.kind == kind]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.chdir(tmp_path)
    made: list[Daemon] = []

    def begin(text: str = "") -> Daemon:
        made.append(Daemon(tmp_path, text))
        return made[-1]

    yield begin
    for daemon in made:
        daemon.writer.close()
        daemon.reader.close()


def test_a_new_rule_knows_the_past_and_says_what_still_stands(begin) -> None:
    daemon = begin()
    daemon.steps(100)
    assert "mine" not in daemon.core.rules
    daemon.says(MINE)
    (proposal,) = daemon.core.dispatcher.proposals.values()
    assert proposal.finding.rule == "mine"
    assert "sitter.toml was read again: mine added" in daemon.logbook("note")
    assert [s.name for s in daemon.core.rule_states()][-1] == "mine"


def test_a_rule_that_was_taken_out_proposes_nothing_any_more(begin) -> None:
    daemon = begin(MINE)
    daemon.steps(100)
    assert daemon.core.dispatcher.proposals
    daemon.says("")
    assert not daemon.core.dispatcher.proposals
    assert "mine" not in daemon.core.rules
    daemon.steps(10)
    assert "sitter.toml was read again: mine taken out" in daemon.logbook("note")


def test_the_rules_that_are_the_same_keep_what_they_know(begin) -> None:
    daemon = begin(MINE)
    daemon.steps(100)
    guard, mine = daemon.core.rules["guard"], daemon.core.rules["mine"]
    daemon.says(MINE + "[rules.gpu_hot]\ncelsius = 70\n")
    assert daemon.core.rules["guard"] is guard
    assert daemon.core.rules["mine"] is mine
    assert daemon.core.rules["gpu_hot"].params.celsius == 70
    assert len(daemon.core.dispatcher.proposals) == 1
    daemon.says(MINE.replace("> 1", "> 1.1"))
    assert daemon.core.rules["mine"] is not mine
    assert "sitter.toml was read again: gpu_hot, mine changed" in daemon.logbook("note")


def test_a_wrong_file_keeps_the_rules_and_says_so_once_and_in_the_status(begin) -> None:
    daemon = begin(MINE)
    rules = dict(daemon.core.rules)
    daemon.says('[rules.mine]\nwhen = "medain(loss, 20) > 1"\n')
    daemon.reload.tick()
    assert daemon.core.rules == rules
    (said,) = [text for text in daemon.core.warnings() if "rules stay" in text]
    assert "did you mean median?" in said
    assert [text for text in daemon.logbook("note") if "rules stay" in text] == [said]
    daemon.says(MINE)
    assert [text for text in daemon.core.warnings() if "rules stay" in text] == []


def test_a_file_that_is_being_written_is_not_read_yet(begin) -> None:
    daemon = begin(MINE)
    mine, path = daemon.core.rules["mine"], daemon.run.sitter_toml
    path.write_text("")  # emptied, and written a moment later
    daemon.reload.tick()
    path.write_text(MINE.replace("> 1", "> 1.1"))
    daemon.reload.tick()
    assert daemon.core.rules["mine"] is mine
    daemon.reload.tick()
    assert daemon.core.rules["mine"] is not mine
    path.unlink()  # taken away, and another one put in its place
    daemon.reload.tick()
    (path.parent / "new").write_text(MINE.replace("> 1", "> 1.2"))
    (path.parent / "new").replace(path)
    daemon.look_twice()
    assert [text for text in daemon.logbook("note") if "taken out" in text or "stay" in text] == []
    assert daemon.core.rules["mine"].params.when.endswith("> 1.2")


def test_a_file_that_is_gone_keeps_the_rules(begin) -> None:
    daemon = begin(MINE)
    daemon.run.sitter_toml.unlink()
    daemon.look_twice()
    assert "mine" in daemon.core.rules
    assert any("the rules stay as they are" in text and "is gone" in text for text in daemon.core.warnings())
    daemon.says("")
    assert "mine" not in daemon.core.rules
    assert daemon.reload.trouble == ""


def test_modes_and_the_runs_preset_change_at_once_and_what_does_not_is_said(begin) -> None:
    daemon = begin(MINE)
    daemon.steps(100)
    daemon.says('mode = "watch"\n[notify.me]\nkind = "command"\ncommand = "true"\n' + MINE)
    assert daemon.core.dispatcher.mode_of("guard") == "watch"
    assert not daemon.core.dispatcher.proposals
    assert "sitter.toml was read again: mode watch; [notify] when the daemon starts next" in daemon.logbook("note")


def test_an_incident_of_a_rule_that_is_gone_is_over(begin) -> None:
    daemon = begin(MINE + 'severity = "critical"\n')
    daemon.steps(100)
    assert daemon.core.incidents.open
    daemon.says("")
    assert not daemon.core.incidents.open


def test_a_rule_in_python_is_read_with_the_others_and_anew_when_its_file_changes(begin, tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(PYTHON)
    daemon = begin('rule_files = ["my_rules.py"]\n[rules.odd]\nbound = 1.75\n')
    assert (daemon.run.path / "my_rules.py").read_text() == PYTHON  # the run keeps the rules that it began with
    daemon.steps(10)
    assert any(text.startswith("loss 2") for text in daemon.logbook("finding"))
    odd = daemon.core.rules["odd"]
    daemon.says('rule_files = ["my_rules.py"]\n[rules.odd]\nbound = 1.75\n[rules.gpu_hot]\ncelsius = 70\n')
    assert daemon.core.rules["odd"] is odd
    daemon.says(PYTHON.replace('"odd loss"', '"odder loss"'), "my_rules.py")
    assert daemon.core.rules["odd"].title == "odder loss"
    assert daemon.core.rules["odd"].memory == 10  # it was told the past
    daemon.says(PYTHON + "\nclass (\n", "my_rules.py")
    assert daemon.core.rules["odd"].title == "odder loss"
    assert any("SyntaxError" in text for text in daemon.core.warnings())
    (daemon.run.path / "my_rules.py").unlink()
    (tmp_path / "my_rules.py").unlink()
    daemon.look_twice()
    assert any("no file my_rules.py" in text for text in daemon.core.warnings())


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n", "defines no rule"),
        ("1 / 0\n", "(line 1): ZeroDivisionError"),
        ("import nothing_of_that_name\n", "(line 1): ModuleNotFoundError"),
        ("def f(:\n", "(line 1): SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        (PYTHON.replace('    name = "odd"\n', ""), "class Odd has no name"),
        (PYTHON.replace('    """The loss is above its bound."""\n', ""), "class Odd has no docstring"),
        (PYTHON.replace('name = "odd"', 'name = "guard"'), "there is a rule 'guard' already"),
        (PYTHON.replace('name = "odd"', 'name = "so odd"'), "class Odd has name = 'so odd': expected letters"),
        (PYTHON.replace('("loss",)', '"loss"'), 'class Odd has signals = \'loss\': expected a tuple such as ("loss",)'),
        (PYTHON.replace('title =', 'default_mode = "guard"\n    title ='), "has default_mode = 'guard': expected one of off, watch"),
        (PYTHON.replace('title =', 'default_limit = "often"\n    title ='), "has default_limit = 'often', expected a number per minute"),
        (PYTHON.replace("    def fresh(self):\n        return 0", "    def __init__(self, params=None):\n        1 / 0"),
         "rule odd cannot be made: ZeroDivisionError"),
    ],
)
def test_a_python_file_that_is_wrong_is_refused_in_one_sentence(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "my_rules.py").write_text(textwrap.dedent(source))
    with pytest.raises(ConfigError) as refused:
        build(parse('rule_files = ["my_rules.py"]', "x"), str(tmp_path / "sitter.toml"))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_nowhere_and_a_list_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"\(line 1\): no file none.py; looked in"):
        build(parse('rule_files = ["none.py"]', "x"), "x")
    with pytest.raises(ConfigError, match="expected a list of names"):
        parse('rule_files = "my_rules.py"', "x")


def test_a_rule_that_was_switched_off_is_shown_as_such_until_it_is_mended(begin, tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(PYTHON.replace("self.params.bound", "self.params.bond"))
    daemon = begin('rule_files = ["my_rules.py"]\n')
    daemon.steps(3)
    (odd,) = [state for state in daemon.core.rule_states() if state.name == "odd"]
    assert "AttributeError" in odd.broken
    daemon.says(PYTHON, "my_rules.py")
    daemon.steps(3)
    (odd,) = [state for state in daemon.core.rule_states() if state.name == "odd"]
    assert odd.broken == ""
    assert any(text.startswith("loss 2") for text in daemon.logbook("finding"))
