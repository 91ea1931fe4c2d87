"""Whatever a rule of somebody else's does, the daemon goes on, and says it."""

import contextlib
import sys
import textwrap
from pathlib import Path
from types import FrameType

import pytest

from sitter.config import parse
from sitter.control.ruleset import careful
from sitter.control.ruleset.build import build
from sitter.model import Finding
from sitter.rules.engine import Engine
from sitter.rules.view import RunView, Sample
from sitter_wire.events import Restored, SnapshotTaken
from sitter_wire.records import Happening

HEAD = '''
import sys, threading, time
from sitter.rules.base import Rule
from sitter.model import Finding

class Odd(Rule):
    """A page."""

    name, title = "odd", "odd"

'''


def told(tmp_path: Path, body: str) -> list[Finding]:
    """What is found where such a rule is told three points, with a snapshot and a restore in between, and two seconds."""
    (tmp_path / "mine.py").write_text(HEAD + textwrap.indent(textwrap.dedent(body), "    "))
    rules, _ = build(parse('rule_files = ["mine.py"]', "x"), str(tmp_path / "sitter.toml"))
    engine = Engine([rule for rule in rules if rule.name == "odd"], RunView(in_session=True, state="running"))
    found = engine.observe(Sample(1, 0, 1.0, {"loss": 2.0}))
    engine.happened(Happening(0, 1, 0, 0, SnapshotTaken(slot=0, branch=0, step=1, bytes=1, seconds=0.0)))
    found += engine.observe(Sample(2, 0, 2.0, {"loss": 2.0}))
    engine.happened(Happening(0, 2, 0, 0, Restored(branch=1, step=1, from_branch=0, left=2, source="snapshot")))
    found += engine.observe(Sample(2, 1, 3.0, {"loss": 2.5}))
    return [*found, *engine.tick(3.0), *engine.tick(4.0)]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def observe(self, sample, view): 1 / 0", "ZeroDivisionError: division by zero"),
        ("def observe(self, sample, view): sys.exit(3)", "it called sys.exit(3)"),
        ("def observe(self, sample, view): return 'too high'", "expected a finding, made by self.found(…), or None"),
        ("def observe(self, sample, view): return True", "it returned 'True'"),
        ("def observe(self, sample, view): return self.found('bad', 'x', step=1, branch=0)", "its finding is none: Invalid enum"),
        ("def observe(self, sample, view): return self.found('info', 3, step=1, branch=0)", "its finding is none: Expected `str`"),
        ("def observe(self, sample, view): return self.found('info', 'x', step=1, branch=0, actions=['lr=0.5x'])", "its finding is none"),
        ("def observe(self, sample, view): return self.found('info', 'x', step=1, branch=0, evidence={'a': [1]})", "its finding is none"),
        ("def observe(self, sample): return None", "TypeError"),
        ("def tick(self, view, now): raise KeyError('a')", "KeyError"),
        ("def happened(self, happening, view): raise KeyError('a')", "KeyError"),
        ("def fresh(self): raise KeyError('a')\ndef set_state(self, state): self.memory = self.fresh()\n"
         "def observe(self, sample, view): pass", "KeyError"),
        ("def observe(self, sample, view): self.memory = threading.Lock()", "cannot pickle"),
        ("suspicious = property(lambda self: 1 / 0)\ndef observe(self, sample, view): pass", "ZeroDivisionError"),
        ("open_trip = property(lambda self: sys.exit())\nsuspicious = False\ndef observe(self, sample, view): pass", "sys.exit()"),
    ],
)  # fmt: skip
def test_it_is_switched_off_with_one_sentence(tmp_path: Path, body: str, says: str) -> None:
    (finding,) = told(tmp_path, body)
    assert finding.rule == "odd"
    assert finding.text.startswith("rule odd failed and is switched off")
    assert says in finding.text


@pytest.mark.parametrize("loop", ["while True: pass", "while True:\n        try: time.sleep(60)\n        except Exception: pass"])
def test_what_does_not_come_to_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    monkeypatch.setattr(careful, "LOOK_S", 0.02)
    monkeypatch.setattr(careful, "_watch", careful._Watch())
    (finding,) = told(tmp_path, f"def observe(self, sample, view):\n    {loop}")
    assert "EndlessError: it did not come to an end within" in finding.text


def test_a_signal_that_comes_as_the_call_begins_or_ends_raises_nothing_where_nobody_would_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, before, lines = careful._Watch(), sys.gettrace(), []
    monkeypatch.setattr(careful, "_watch", watch)

    def comes(frame: FrameType, event: str, arg: object) -> object:
        if event == "line" and watch.call is not None:
            lines.append(frame.f_lineno)
            watch._interrupt(careful.SIGNAL, frame)
        return comes

    around = (careful.__file__, contextlib.__file__)
    sys.settrace(lambda frame, event, arg: comes if frame.f_code.co_filename in around else None)
    try:
        with careful.limited():
            pass
    finally:
        sys.settrace(before)
    assert len(lines) > 3


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    body = """
        def observe(self, sample, view):
            import numpy as np
            evidence = {"a": np.float32(1.5), "b": np.int64(3), "c": np.bool_(True), "d": True}
            return self.found("info", "x", step=np.int64(sample.step), branch=sample.branch, evidence=evidence)
    """
    assert [(f.step, f.evidence) for f in told(tmp_path, body)] == [(step, {"a": 1.5, "b": 3, "c": 1, "d": 1}) for step in (1, 2, 2)]
