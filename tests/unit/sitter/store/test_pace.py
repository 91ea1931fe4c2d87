"""When the history is committed: every 250 ms while there is something, seldom beside a run that hardly says anything."""

import threading
from typing import Any

import pytest

from sitter.store.pace import COMMIT_EVERY, FEW, LEISURE_EVERY, MANY, Pace
from sitter_wire.events import Remark
from sitter_wire.records import Happening


def at_leisure() -> Pace:
    pace = Pace()
    pace.leisure = True
    return pace


def test_with_nothing_to_commit_it_sleeps_until_it_is_woken() -> None:
    pace = Pace()
    assert pace.wait(0.0) is None
    assert pace.came(5.0, records=1)


def test_what_waits_is_committed_after_a_quarter_of_a_second() -> None:
    pace = Pace()
    pace.came(5.0, records=1)
    assert pace.wait(5.0) == pytest.approx(COMMIT_EVERY)
    assert pace.wait(5.0 + COMMIT_EVERY) == 0.0


def test_while_records_come_it_wakes_once_a_commit() -> None:
    pace, wakes, commits = Pace(), 0, 0
    until = pace.wait(0.0)
    for i in range(1, 1001):
        now = i / 100
        if pace.came(now, records=2) or (until is not None and now >= until):
            wakes += 1
            left = pace.wait(now)
            if left == 0.0:
                pace.taken(now)
                commits += 1
                left = pace.wait(now)
            until = None if left is None else now + left
    assert 38 <= commits <= 41
    assert wakes == commits + 1  # and once at the very first, out of its sleep


def test_a_few_values_at_leisure_wait_and_wake_nobody() -> None:
    pace = at_leisure()
    pace.wait(0.0)
    assert pace.came(0.0, records=1)
    assert pace.wait(0.0) == pytest.approx(LEISURE_EVERY)
    assert not pace.came(1.0, records=1)
    assert pace.wait(LEISURE_EVERY) == 0.0
    assert pace.taken(LEISURE_EVERY)
    assert not pace.came(LEISURE_EVERY + 1, records=1)
    assert pace.wait(2 * LEISURE_EVERY) == 0.0


def test_words_and_events_never_wait() -> None:
    pace = at_leisure()
    pace.came(0.0, records=1)
    pace.taken(0.0)
    pace.wait(0.0)
    assert not pace.came(0.5, records=1)
    assert pace.came(1.0, pressing=True)
    assert pace.wait(1.0) == 0.0  # the value before it has waited for longer than a quarter of a second already
    assert not pace.taken(1.0)
    pace.came(1.1, pressing=True)
    assert pace.wait(1.1) == pytest.approx(COMMIT_EVERY - 0.1)


def test_records_that_come_quickly_end_the_leisure() -> None:
    pace = at_leisure()
    pace.wait(0.0)
    told = [pace.came(0.001 * i, records=1) for i in range(FEW)]
    assert told == [True] + [False] * (FEW - 2) + [True]
    assert pace.wait(0.1) == pytest.approx(COMMIT_EVERY - 0.1)


def test_very_much_is_committed_at_once() -> None:
    pace = Pace()
    pace.wait(0.0)
    assert pace.came(0.0, records=MANY)
    assert pace.wait(0.0) == 0.0


def test_after_a_silence_it_sleeps_again() -> None:
    pace = at_leisure()
    pace.came(0.0, records=1)
    pace.taken(5.0)
    assert pace.wait(5.0) == pytest.approx(LEISURE_EVERY)
    assert pace.wait(5.0 + LEISURE_EVERY) is None
    assert pace.came(30.0, records=1)


def test_a_writer_at_leisure_keeps_values_and_commits_them_when_asked_or_with_an_event(
    store: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sitter.store.pace.LEISURE_EVERY", 600.0)
    assert store.writer.flush()
    store.writer.leisure(True)
    threading.Event().wait(2 * COMMIT_EVERY)  # past what the flush left of its doze
    store.writer.records("s1", store.points(3))
    threading.Event().wait(2 * COMMIT_EVERY)  # by when it would have been committed otherwise
    assert {"s1": 3} not in store.committed
    assert store.writer.flush()
    until(lambda: {"s1": 3} in store.committed)  # told just after the flush has heard of it
    store.writer.records("s1", [Happening(4, 4, 0, 1, Remark(text="now"))])
    until(lambda: {"s1": 4} in store.committed)  # an event does not wait as long as values at leisure
    store.writer.records("s1", store.points(1, first_seq=5))
    store.writer.leisure(False)
    until(lambda: {"s1": 5} in store.committed)  # somebody looks
