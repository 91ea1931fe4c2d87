"""The row under the header, where nothing was asked."""

import msgspec
import pytest

from sitter import model
from sitter.rules.stalled import Stalled
from sitter.testing.fake_reader import FakeReader
from sitter.testing.manual_clock import ManualClock
from sitter.tui import strip
from sitter.tui.view import View


def test_why_a_training_stands_and_on_which_line_is_said_at_once_as_long_as_it_does() -> None:
    text = "no step for 19 s at step 345, the process stands still: no CPU. It stands at train.py:29 in main: `queue.get()`"
    found = model.LogEntry(id=1, time=0.0, kind="finding", step=345, rule=Stalled.name, status="critical", detail=text)
    over = model.LogEntry(id=2, time=0.0, kind="incident", step=346, rule=Stalled.name, status="recovered", detail="it goes on")
    status = msgspec.structs.replace(FakeReader(ManualClock())._status(), state="stalled", verdict="NEEDS YOU", proposals=[])
    view = View(run_name="x", clock=ManualClock(), status=status, entries=[found])
    said = " ".join(span[0].strip() for line in strip.lines(view, 80) for span in line)
    assert said == text
    view.entries = [found, over]
    assert "queue.get" not in str(strip.lines(view, 80))
    view.entries, view.status = [found], msgspec.structs.replace(status, state="running", verdict="OK")
    assert "queue.get" not in str(strip.lines(view, 80))


@pytest.mark.parametrize(("state", "kind", "how"), [
    ("crashed", "incident", "crashed at step 342, exit code 1: RuntimeError: no such thing as a free [/b] lunch"),
    ("preempted", "note", "preempted at step 342, ended by SIGTERM; not started again: the machine is being taken away"),
])  # fmt: skip
def test_how_a_training_died_and_what_goes_on_with_it_is_said_at_once(state, kind, how) -> None:
    status = msgspec.structs.replace(FakeReader(ManualClock())._status(), run="x", state=state, verdict="DEAD", proposals=[])
    died = model.LogEntry(id=1, time=0.0, kind=kind, step=342, status=state, detail=f"x: {how}")
    words = model.LogEntry(id=2, time=0.0, kind="note", step=342, status="last words", detail="the last lines of train.log:")
    view = View(run_name="x", clock=ManualClock(), status=status, entries=[died, words])
    assert _said(view) == f"{how} {strip.RESUME[state]}"
    view.entries = [words]
    assert strip.RESUME[state] in _said(view), "it is about to be told"


def _said(view: View) -> str:
    return " ".join("".join(span[0] for span in line).strip() for line in strip.lines(view, 80))


@pytest.mark.parametrize(("width", "cut"), [(60, True), (200, False)])
def test_that_a_warning_is_longer_than_its_rows_is_seen(width, cut) -> None:
    text = "the run directory /scratch/on/a/long/way/to/sitter-runs/x was moved or removed: put it back; until then no record is written"
    status = msgspec.structs.replace(FakeReader(ManualClock())._status(), verdict="OK", proposals=[], warnings=[text])
    said = ["".join(span[0] for span in line) for line in strip.lines(View(run_name="x", clock=ManualClock(), status=status), width)]
    assert len(said) <= 2
    assert said[-1].endswith("…") is cut
    assert max(map(len, said)) <= width
