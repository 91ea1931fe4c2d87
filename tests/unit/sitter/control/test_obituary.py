"""What the logbook says of attempts that were followed by another."""

import contextlib
import json

import pytest

from sitter.clock import SystemClock
from sitter.control.obituary import LOOK_S, NO_GOOD_BYE, Obituary
from sitter.model import ExitNow
from sitter.store.reader import Reader
from sitter.testing.manual_clock import ManualClock
from sitter_wire import rundir
from tests.unit.sitter.control.conftest import opened


@pytest.fixture
def run(tmp_path):
    return rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")


@contextlib.contextmanager
def daemon(run, clock=None):
    """One daemon's core and obituary; what it wrote is committed when it is left."""
    with opened(run) as core, contextlib.closing(Reader(run.history)) as reader:
        yield Obituary(core, reader, clock or SystemClock())


def attempts(run, *spans):
    """As the parent writes them: each crashed and was followed by another."""
    listed = [{"pid": 7, "started": began, "ended": ended, "code": 1, "then": "restarting in 0:05 (1 of 9)"} for began, ended in spans]
    (run.path / "attempts.json").write_text(json.dumps({"of": 9, "attempts": listed}))


def crashes(run):
    with contextlib.closing(Reader(run.history)) as reader:
        return len([line for line in reader.logbook() if line.status == "crashed"])


def test_each_is_told_once_also_where_the_clock_was_turned_back_between_them(run):
    with daemon(run) as obituary:
        attempts(run, (10_000.0, 10_100.0))
        obituary.tick()
        obituary.tick()
        attempts(run, (10_000.0, 10_100.0), (6_500.0, 6_600.0))
        obituary.tick()
    assert crashes(run) == 2
    with daemon(run) as obituary:
        obituary.tick()
    assert crashes(run) == 2


def test_it_is_told_at_once_when_another_process_lives_and_looked_after_seldom_while_the_same_one_does(run):
    clock = ManualClock()
    with daemon(run, clock) as obituary:
        life = obituary._core.life
        life.pid = 7
        obituary.tick()
        attempts(run, (10_000.0, 10_100.0))
        life.pid = 8
        obituary.tick()
        assert told(obituary, 1)
        attempts(run, (10_000.0, 10_100.0), (10_200.0, 10_300.0))
        obituary.tick()
        assert told(obituary, 1)
        clock.advance(LOOK_S)
        obituary.tick()
        assert told(obituary, 2)


def told(obituary, n):
    assert obituary._core.writer.flush(60)
    return crashes(obituary._core.run) == n


def test_those_of_the_next_sitter_run_are_others(run):
    with daemon(run) as obituary:
        attempts(run, (10_000.0, 10_100.0), (10_200.0, 10_300.0))
        obituary.tick()
        attempts(run, (10_400.0, 10_500.0))
        obituary.tick()
    assert crashes(run) == 3


def test_a_process_that_told_no_step_is_said_to_have_told_none(run):
    how = ExitNow(code=3, signal=None, time=10.0, error="the training ended at once (after 2.1 s) with exit code 3: no such file")
    with daemon(run) as obituary:
        told = obituary.last("crashed", how, None)
    assert told == "t: crashed before it told a step, the training ended at once (after 2.1 s) with exit code 3: no such file"


@pytest.mark.parametrize(("how", "says"), [
    (None, "t: crashed at step 7, an exception ended it: ValueError: no"),
    (ExitNow(code=0, signal=None, time=10.0), "t: crashed at step 7, an exception ended it, though the command that it was started by "
     "ended with exit code 0, and so it is not started again: ValueError: no"),
    (ExitNow(code=1, signal=None, time=10.0), "t: crashed at step 7, exit code 1: ValueError: no"),
])  # fmt: skip
def test_an_exception_that_the_good_bye_names_is_the_cause(run, how, says):
    with daemon(run) as obituary:
        session = obituary._core.flow.session("s", (1.0, 1.0), 7)
        session.goodbye, session.why = "crashed", "ValueError: no"
        assert obituary.last("crashed", how, 7) == says


@pytest.mark.parametrize(("step", "goodbye", "says"), [
    (2000, "total", "t: finished at step 2,000, exit code 0"),
    (7, "left early", "t: finished at step 7 of 2,000, exit code 0"),
    (7, None, f"t: finished at step 7 of 2,000 ({NO_GOOD_BYE}), exit code 0"),
])  # fmt: skip
def test_an_end_before_the_last_step_is_called_one(run, step, goodbye, says):
    with daemon(run) as obituary:
        present = obituary._core.present
        obituary._core.flow.session("s", (1.0, 1.0), 7).goodbye, present.total = goodbye, 2000
        assert obituary.last("finished", ExitNow(code=0, signal=None, time=10.0), step) == says
