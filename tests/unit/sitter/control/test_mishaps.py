"""One task that fails ends neither the daemon nor the tasks beside it, and the status says so."""

import pytest

from sitter.control import mishaps
from sitter.control.inbox import Inbox
from sitter.control.timers import Timers
from sitter.testing.manual_clock import ManualClock


@pytest.fixture(autouse=True)
def none_yet(monkeypatch):
    monkeypatch.setattr(mishaps, "_seen", {})


def fails():
    raise RuntimeError("a bug")


def test_by_the_clock():
    clock, ran = ManualClock(), []
    timers = Timers(clock)
    timers.every(1.0, fails)
    timers.every(1.0, lambda: ran.append(1))
    for _ in range(3):
        clock.advance(1.0)
        timers.run()
    assert len(ran) == 3
    (sentence,) = mishaps.mishaps()
    assert "failed 3 times" in sentence
    assert "a bug" in sentence


def test_from_another_thread():
    inbox, ran = Inbox(), []
    inbox.post(fails)
    inbox.post(lambda: ran.append(1))
    inbox.run()
    assert ran == [1]
    assert mishaps.mishaps()
    inbox.close()


def test_kinds_without_end_are_not_kept():
    def fail(number):
        raise RuntimeError(str(number))

    for number in range(1000):
        mishaps.guarded(lambda number=number: fail(number))
    assert len(mishaps._seen) == mishaps.KINDS
