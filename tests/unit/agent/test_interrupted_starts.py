"""Ctrl-C while ``start`` is at work, at any line of it: what was begun is undone, or whole, and the next ``start`` works.

The signal comes at a line, as it would from the terminal, and Python's own handler raises KeyboardInterrupt wherever it is let."""

import contextlib
import gc
import signal
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

import sitter_agent
from sitter_agent import agent as agents
from sitter_agent import held_back
from sitter_agent.launcher import is_held
from sitter_agent.session import _descriptors, _holders
from sitter_wire.events import GoodBye
from tests.unit.agent.conftest import Quadratic, Run, agents_threads, raises_at, until

OURS = (str(Path(agents.__file__).parent), str(Path(sys.modules["sitter_wire.places"].__file__).parent))


class CtrlC:
    """The ``at``-th line of our code (of the file ``of``) that runs on this thread gets a SIGINT. ``came``: whether there were as many;
    ``where`` it was."""

    def __init__(self, at: int, number: int = signal.SIGINT, of: str = "") -> None:
        self.left, self.number, self.of, self.came, self.where = at, number, of, False, ""

    def __call__(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(OURS) or not frame.f_code.co_filename.endswith(self.of):
            return None
        if event == "line" and not self.came:
            self.left -= 1
            if self.left < 0:
                self.came, self.where = True, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                sys.settrace(None)
                signal.raise_signal(self.number)
        return self

    def during(self, what):
        """Its result, or None where it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            return what()
        except KeyboardInterrupt:
            return None
        finally:
            sys.settrace(before)


def descriptors() -> list[str]:
    """What each is of, the numbers of pipes and sockets left out, once nothing of ours runs any more."""
    assert until(lambda: not agents_threads())  # the one that waits for signals closes its end of a pipe itself
    gc.collect()  # a session's segments stay mapped for as long as somebody may read them
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was the one of this look
            found.append(str(path.readlink()).partition(":[")[0])
    return sorted(found)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in signal.valid_signals()]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory of its own; nothing of an agent is left when the test ends."""
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in a shell's background
    yield tmp_path
    if sitter_agent.current() is not None:
        sitter_agent.current().close()
    signal.signal(signal.SIGINT, before)


def nothing_is_left(where: str, run: Path | None = None) -> None:
    assert until(lambda: not agents_threads(), 60.0), where
    assert not _descriptors, where
    assert not _holders, where
    assert held_back._present is None, where
    if run is not None:
        assert not is_held(run / "agent.lock"), where


def start_interrupted_at(at: int, of: str = "") -> CtrlC:
    """One start with an interrupt at that line, and another one without behind it."""
    ctrl_c, before = CtrlC(at, of=of), handlers()
    assert ctrl_c.during(lambda: sitter_agent.start(daemon=False, name="x")) is None
    nothing_is_left(ctrl_c.where)
    assert handlers() == before, ctrl_c.where
    trained_once(ctrl_c.where)
    nothing_is_left(ctrl_c.where)
    assert handlers() == before, ctrl_c.where
    return ctrl_c


def trained_once(where: str) -> None:
    agent = sitter_agent.start(daemon=False, name="x")
    assert agent.recording, where
    Quadratic().known_to(agent)
    for _ in agent.steps(2):
        agent.log(loss=1.0)
    run = Run(agent.run)
    agent.close()
    assert len(run.values("loss")) == 2, where


def lines_of_a_start(of: str = "") -> int:
    count = CtrlC(1 << 30, of=of)
    agent = count.during(lambda: sitter_agent.start(daemon=False, name="x"))
    agent.close()
    return (1 << 30) - count.left


@pytest.mark.parametrize("of", ["session.py", "link.py", "opening.py"])
def test_an_interrupt_in_a_start_leaves_nothing_half_open(place, of):
    """Where a lock was taken, a thread started, a socket opened, and nobody knows of it yet."""
    lines = lines_of_a_start(of)
    assert lines > 20
    before = Counter(descriptors())
    for at in (lines // 2, lines * 4 // 5):
        assert start_interrupted_at(at, of).came
    assert not Counter(descriptors()) - before


@pytest.mark.slow
def test_an_interrupt_anywhere_in_a_start_leaves_nothing_half_open(place):
    """At every line it takes six minutes (and was done)."""
    lines, before = lines_of_a_start(), Counter(descriptors())
    for at in range(0, lines, 7):
        assert start_interrupted_at(at).came
    assert not Counter(descriptors()) - before


def test_an_interrupt_while_an_earlier_session_is_closed_by_a_start_closes_that_one_too(place):
    lines, at = 1, 0
    while at < lines:
        first = sitter_agent.start(daemon=False, name="x")
        run, ctrl_c = Run(first.run), CtrlC(at)
        ctrl_c.during(lambda: sitter_agent.start(daemon=False, name="x"))
        assert ctrl_c.came
        if first.recording:  # before ours began: as if it had not been called
            first.log(loss=1.0)
            assert run.values("loss")
            first.close()
        nothing_is_left(ctrl_c.where)
        assert run.events(GoodBye), ctrl_c.where
        if lines == 1:
            count = CtrlC(1 << 30)
            sitter_agent.start(daemon=False, name="x")
            count.during(lambda: sitter_agent.current().close())
            lines = (1 << 30) - count.left
        at += max(1, lines // 4)


def test_what_the_scripts_own_handlers_do_is_done_when_the_session_is_whole_and_only_then(place):
    """An alarm that raises nothing costs no start; each handler is called once, and stands where it stood."""
    came = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: came.append(sitter_agent.current()))
    try:
        ctrl_c = CtrlC(200, signal.SIGALRM)
        agent = ctrl_c.during(lambda: sitter_agent.start(daemon=False, name="x"))
        assert ctrl_c.came
        assert came == [agent]
        assert agent.recording
        signal.raise_signal(signal.SIGALRM)
        assert len(came) == 2
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_error_of_a_handler_of_the_script_passes(place):
    with raises_at(signal.SIGALRM):
        CtrlC(200, signal.SIGALRM).during(lambda: sitter_agent.start(daemon=False, name="x"))
    nothing_is_left("alarm")


def test_the_second_interrupt_is_not_held_back(place):
    with held_back.HeldBack():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        held_back._present._came.clear()
    assert held_back._present is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_while_the_daemon_starts_ends_the_wait_and_the_daemon(place, monkeypatch):
    """By the real daemon; the terminal's Ctrl-C comes when its process is there."""
    seen, earlier = [], set(psutil.Process().children())
    wait = held_back.look

    def ctrl_c():
        if not seen:
            seen.append(True)
            signal.raise_signal(signal.SIGINT)
        wait()

    monkeypatch.setattr("sitter_agent.launcher.look", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        sitter_agent.start(name="x")
    assert seen
    (run,) = (place / "sitter-runs").iterdir()
    nothing_is_left("the daemon's start", run)
    (said,) = Run(run).events(GoodBye)
    assert said.how == "left early"
    assert set(psutil.Process().children()) <= earlier, "a zombie was left"
    assert until(lambda: not is_held(run / "daemon.lock"))
