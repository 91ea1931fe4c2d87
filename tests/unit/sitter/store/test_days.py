"""The daily look: whole days, idle GPU, what happened since."""

import math
from typing import Any

import pytest

from sitter.model import Incident, LogEntry
from sitter.store.days import slope
from sitter_wire import events
from sitter_wire.records import Happening, Point

DAY = 86400
START = 1_700_006_400  # midnight UTC


@pytest.fixture
def run(store: Any) -> Any:
    """Two and a half days from noon on, a step a minute; the loss falls by 1 a 1,000 steps; a rollback at the end of the first day."""
    store.writer.session("s1", (START + DAY // 2) * 10**9, store.mono, 42)
    start = events.SessionStart(pid=1, host="h", branch=0, goal="val_acc", better="higher")
    records: list[Any] = [Happening(1, 0, 0, store.mono, start)]
    minute = 0

    def steps(first: int, last: int, branch: int) -> None:
        nonlocal minute
        for step in range(first, last + 1):
            minute += 1
            at = store.mono + minute * 60 * 10**9
            records.append(Point(len(records) + 1, step, branch, at, ("loss", "lr"), (10 - step / 1000, 0.1 / (1 + step // 1000))))
            if step % 100 == 0:
                records.append(Point(len(records) + 1, step, branch, at, ("val_acc",), (step / 10_000,)))

    steps(0, 700, 0)
    at = store.mono + minute * 60 * 10**9
    records.append(Happening(len(records) + 1, 600, 1, at, events.Restored(branch=1, step=600, from_branch=0, left=700, source="snapshot")))
    steps(601, 3599, 1)
    store.put(records)
    store.minutes = minute
    return store


def test_a_row_a_day(run: Any) -> None:
    rows = run.reader.days()
    assert [r.day for r in rows] == ["2023-11-15", "2023-11-16", "2023-11-17", "2023-11-18"]
    # Minute 719 after noon is the first day's last; by then 100 steps had been gone back on (and one minute lies before step 0).
    assert [r.steps for r in rows] == [619, 1440, 1440, 101]
    for row, last in zip(rows, (618, 2058, 3498, 3599), strict=True):
        assert row.slope_per_k == pytest.approx(-1.0, abs=1e-6)
        assert row.loss == pytest.approx(10 - (last - 0.05 * row.steps) / 1000, abs=0.01)
        assert row.goal == (last // 100) * 100 / 10_000
        assert row.lr == 0.1 / (1 + last // 1000)
        assert row.gpu_idle is None
    assert [r.rate for r in rows] == pytest.approx([619 / 718 / 60, 1 / 60, 1 / 60, 101 / 100 / 60], rel=0.01)


def test_where_a_day_begins_is_the_viewers(run: Any) -> None:
    east = run.reader.days(utc_offset=12 * 3600)
    assert [r.day for r in east] == ["2023-11-16", "2023-11-17", "2023-11-18"]
    assert east[0].steps == 1440 - 101
    assert sum(r.steps for r in east) == 3600


def test_actions_of_a_day_are_the_commands_applied(run: Any) -> None:
    noon = START + DAY // 2
    lines = ((5, "applied", "outcome"), (6, "rejected", "outcome"), (DAY, "applied", "outcome"), (0, "x", "note"))
    for after, status, kind in lines:
        time = noon + after
        run.writer.log(LogEntry(id=0, time=float(time), kind=kind, status=status))
    assert run.writer.flush()
    assert [r.actions for r in run.reader.days()] == [1, 1, 0, 0]


def test_idle_gpu_is_counted_by_samples(run: Any) -> None:
    noon = START + DAY // 2
    for i in range(3000):
        run.writer.host(noon + i, {"gpu0.util": 0.0 if i < 1200 else 95.0, "gpu1.util": 50.0, "cpu": 1.0})
    assert run.writer.flush()
    assert run.reader.days()[0].gpu_idle == pytest.approx(0.2)
    assert run.reader.since(noon + 600, noon + 1800).gpu_idle == pytest.approx(600 / 1200 / 2)
    assert run.reader.since(noon + 10_000, noon + 20_000).gpu_idle is None


def test_what_happened_since(run: Any) -> None:
    noon = START + DAY // 2
    run.writer.incident(Incident(
        id=1, rule="spike", branch=0, onset=5, began=noon + 60, text="t", ended=noon + 90, verdict="recovered", steps_lost=9,
    ))  # fmt: skip
    run.writer.incident(Incident(
        id=2, rule="spike", branch=0, onset=690, began=noon + 41_000, text="t", ended=noon + 42_600,
        verdict="recovered, 100 steps lost", steps_lost=100,
    ))  # fmt: skip
    run.writer.incident(Incident(id=3, rule="stalled", branch=1, onset=800, began=noon + 60_000, text="t"))
    assert run.writer.flush()
    then = noon + 200 * 60 + 30.0  # step 199 was the last before it
    since = run.reader.since(then, then + 3600)
    assert since.seconds == 3600
    assert since.steps == 3599 - 199
    assert since.goal_name == "val_acc"
    assert since.goal == (pytest.approx(0.01), pytest.approx(0.35))
    assert since.loss == (pytest.approx(10 - (199 - 24.5) / 1000), pytest.approx(10 - (3599 - 24.5) / 1000))
    assert (since.incidents, since.healed, since.steps_lost) == (2, 1, 100)
    before = run.reader.since(noon - 3600.0, then)
    assert (before.steps, before.loss[0]) == (3600, None)


def test_a_pause_over_night_is_no_progress(store: Any) -> None:
    first = store.points(500, every_ns=10**9)
    later = store.points(100, first_seq=501, first_step=500, every_ns=10**9, start_ns=store.mono + 8 * 3600 * 10**9)
    store.put([*first, *later])
    evening, morning = store.wall / 1e9 + 1000, store.wall / 1e9 + 8 * 3600
    assert store.reader.since(evening, morning).steps == 100
    assert store.reader.since(evening + 7 * 3600, morning).steps == 100


def test_slope_needs_three_points_that_differ() -> None:
    assert slope([1, 2], [3, 4]) is None
    assert slope([1, 1, 1], [1, 2, 3]) is None
    assert slope([0, 1, 2, 3], [1, 3, 5, 7]) == pytest.approx(2.0)
    assert not math.isnan(slope([0, 1, 2], [1, 1, 1]) or 0.0)
