"""A curve says what looking at every point would: at every depth, over branches, ranges, sessions and both axes."""

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sitter.model import CheckpointInfo, Curve, LogEntry
from sitter.store.curves import Spans, bucket
from sitter_wire import events
from sitter_wire.queries import GetCurves
from sitter_wire.records import Happening, Point

WEIRD = [math.nan, math.inf, -math.inf]


def brute(points: list[tuple[float, float]], lo: float, hi: float, columns: int) -> list[tuple[float, float, float, bool]]:
    """(min, max, mean, lost) of each column."""
    edges = [lo + i * (hi - lo) / columns for i in range(1, columns)]
    found: list[list[float]] = [[] for _ in range(columns)]
    for x, v in points:
        if lo <= x <= hi:
            found[sum(e <= x for e in edges) if columns < 50 else _column(edges, x)].append(v)
    out = []
    for values in found:
        finite = [v for v in values if math.isfinite(v)]
        mean = math.fsum(finite) / len(finite) if finite else math.nan
        out.append((min(finite, default=math.nan), max(finite, default=math.nan), mean, len(finite) < len(values)))
    return out


def _column(edges: list[float], x: float) -> int:
    from bisect import bisect_right

    return bisect_right(edges, x)


def agrees(curve: Curve, expected: list[tuple[float, float, float, bool]]) -> None:
    assert len(curve.x) == len(curve.low) == len(curve.high) == len(curve.mean) == len(expected)
    lost = set(curve.lost)
    for x, low, high, mean, (e_low, e_high, e_mean, e_lost) in zip(curve.x, curve.low, curve.high, curve.mean, expected, strict=True):
        assert (x in lost) == e_lost
        for got, want in ((low, e_low), (high, e_high), (mean, e_mean)):
            assert got == pytest.approx(want, nan_ok=True, rel=1e-9, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 500), st.one_of(st.floats(-1e6, 1e6), st.sampled_from(WEIRD))), min_size=1, max_size=120),
    st.integers(1, 40),
)
def test_buckets_equal_brute_force(points: list[tuple[int, float]], columns: int) -> None:
    xs, vs = [float(x) for x, _ in points], [v for _, v in points]
    spans = Spans(xs, vs, vs, vs, [int(math.isfinite(v)) for v in vs], [0.0 if math.isfinite(v) else 1.0 for v in vs])
    agrees(bucket("loss", spans, 0.0, 500.0, columns), brute([(x, v) for x, v in zip(xs, vs, strict=True)], 0.0, 500.0, columns))


@pytest.fixture
def run(store: Any) -> Any:
    """3,000 steps, gone back from 2,500 to 2,200 (with a spike in between), on to 9,000; a validation every 100; some not finite."""
    rnd = random.Random(3)
    records: list[Any] = [Happening(1, 0, 0, store.mono, events.SessionStart(pid=1, host="h", branch=0))]
    on_line: list[tuple[int, float]] = []
    left: list[tuple[int, float]] = []

    def steps(first: int, last: int, branch: int, spike: bool) -> None:
        for step in range(first, last + 1):
            value = 1e6 if spike and step > 2200 else rnd.choice(WEIRD) if rnd.random() < 0.002 else 3 - step / 5000 + 0.1 * rnd.gauss(0, 1)
            seq = len(records) + 1
            records.append(Point(seq, step, branch, store.mono + seq * 20_000_000, ("loss", "lr"), (value, 0.1)))
            (left if spike and step > 2200 else on_line).append((step, value))
            if step % 100 == 0:
                seq += 1
                records.append(Point(seq, step, branch, store.mono + seq * 20_000_000, ("val_loss",), (value + 1,)))

    steps(1, 2500, 0, True)
    seq = len(records) + 1
    records.append(Happening(seq, 2200, 1, store.mono + seq * 20_000_000, events.Restored(
        branch=1, step=2200, from_branch=0, left=2500, source="snapshot",
    )))  # fmt: skip
    steps(2201, 9000, 1, False)
    for at in range(0, len(records), 333):
        store.put(records[at : at + 333])
    store.on_line, store.left, store.records = on_line, left, records
    return store


def test_single_points_equal_brute_force(run: Any) -> None:
    for lo, hi, columns in ((100, 400, 37), (2100, 2300, 50), (8990, 9000, 5), (1, 9000, 300)):
        curve = run.reader.curve("loss", lo=lo, hi=hi, columns=columns)
        agrees(curve, brute(run.on_line, lo, hi, columns))


@pytest.mark.parametrize("columns", [1, 2, 3, 20, 30])
def test_roll_ups_cover_every_point_once_and_differ_at_most_at_edges(run: Any, columns: int) -> None:
    """At the depths of 64 and 1,024 a column's edge may move by an eighth of a column; what is inside may not differ."""
    curve = run.reader.curve("loss", columns=columns)
    lo, hi = 1.0, 9000.0
    width = (hi - lo) / columns
    finite = [(s, v) for s, v in run.on_line if math.isfinite(v)]
    for i in range(columns):
        start, end = lo + i * width, lo + (i + 1) * width
        inner = [v for s, v in finite if (i == 0 or s > start + width / 8) and (i + 1 == columns or s < end - width / 8)]
        outer = [v for s, v in finite if (i == 0 or s > start - width / 8) and (i + 1 == columns or s < end + width / 8)]
        exact = [v for s, v in finite if start <= s <= end]
        assert min(outer) <= curve.low[i] <= min(inner)
        assert max(inner) <= curve.high[i] <= max(outer)
        assert curve.mean[i] == pytest.approx(math.fsum(exact) / len(exact), abs=0.02 + width / 8 / 5000)  # the loss falls by 1 in 5,000
    assert min(curve.low) == min(v for _, v in finite)
    assert max(curve.high) == max(v for _, v in finite)


@pytest.mark.parametrize("columns", [1, 4, 40, 400])
def test_what_was_left_behind_never_leaks_into_the_present_line(run: Any, columns: int) -> None:
    assert max(h for h in run.reader.curve("loss", columns=columns).high if h == h) < 10
    (stretch,) = run.reader.abandoned()
    assert stretch == (0, 2200, None)
    behind = run.reader.curve("loss", line=[stretch], abandoned=True, columns=columns)
    assert behind.abandoned
    assert {h for h in behind.high if h == h} == {1e6}
    assert (behind.x[0], behind.x[-1]) == (pytest.approx(2201, abs=160), pytest.approx(2500, abs=160))


def test_an_earlier_branchs_line_can_be_drawn(run: Any) -> None:
    curve = run.reader.curve("loss", line=run.reader.line(0), columns=25, lo=0, hi=2500)
    assert max(h for h in curve.high if h == h) == 1e6


def test_hours_follow_the_sessions_clock(run: Any) -> None:
    by_time = {(r.step, r.branch): (r.time - run.mono) / 3.6e12 for r in run.records if isinstance(r, Point) and r.names[0] == "loss"}
    branch_of = {s: 0 if s <= 2200 else 1 for s, _ in run.on_line}
    points = [(by_time[s, branch_of[s]], v) for s, v in run.on_line]
    lo, hi = points[100][0], points[400][0]
    agrees(run.reader.curve("loss", axis="hours", lo=lo, hi=hi, columns=20), brute(points, lo, hi, 20))
    for columns in (2, 20):
        curve = run.reader.curve("loss", axis="hours", columns=columns)
        assert max(h for h in curve.high if h == h) < 10
        assert min(curve.low) == min(v for _, v in run.on_line if math.isfinite(v))


def test_a_sparse_signal_leaves_empty_columns_empty(run: Any) -> None:
    curve = run.reader.curve("val_loss", lo=1000, hi=1400, columns=40)
    assert sum(math.isnan(m) for m in curve.mean) == 40 - 5
    assert all(math.isnan(low) == math.isnan(m) == math.isnan(high) for low, m, high in zip(curve.low, curve.mean, curve.high, strict=True))


def test_a_signal_that_was_never_logged_is_empty(run: Any) -> None:
    assert all(map(math.isnan, run.reader.curve("reward", columns=7).mean))
    assert run.reader.curves(GetCurves(signals=["reward"], columns=7)).curves == []


def test_a_signal_of_several_groups_is_one_curve(store: Any) -> None:
    records = [
        Point(i + 1, i, 0, store.mono + i * 1000, ("loss",) if i % 3 else ("loss", "acc"), (float(i),) if i % 3 else (float(i), 0.0))
        for i in range(3000)
    ]
    store.put(records)
    agrees(store.reader.curve("loss", lo=0, hi=2999, columns=20), brute([(i, float(i)) for i in range(3000)], 0, 2999, 20))


def test_a_counter_that_jumps_back_is_drawn_in_order(store: Any) -> None:
    order = list(range(500))
    random.Random(1).shuffle(order)
    store.put([Point(i + 1, step, 0, i * 1000, ("loss",), (float(step),)) for i, step in enumerate(order)])
    agrees(store.reader.curve("loss", lo=0, hi=499, columns=10), brute([(s, float(s)) for s in order], 0, 499, 10))


def test_figures_of_the_machine_lie_under_the_steps_of_their_time(store: Any) -> None:
    store.put(store.points(2000, every_ns=10**9))
    for i in range(2000):
        store.writer.host(store.wall / 1e9 + i, {"gpu0.util": 10.0 if i < 1000 else 90.0})
    assert store.writer.flush()
    curve = store.reader.curve("gpu0.util", columns=20)
    assert all(m == 10.0 for m in curve.mean[:9])
    assert all(m == 90.0 for m in curve.mean[11:])
    hours = store.reader.curve("gpu0.util", axis="hours", columns=20)
    assert (hours.mean[0], hours.mean[-1]) == (10.0, 90.0)


def test_more_than_a_page_of_chunks_at_every_depth(store: Any) -> None:
    """70 closed chunks and an open one: the fine and coarse pages and what has none yet."""
    n = 70 * 1024 + 300
    values = [math.sin(i / 900) + (i % 7) / 10 for i in range(n)]
    values[5000], values[68 * 1024 + 5], values[n - 5] = math.nan, math.inf, -math.inf
    for at in range(0, n, 10_000):
        store.put(store.points(min(10_000, n - at), first_seq=at + 1, first_step=at, value=lambda step, i: values[step]))
    finite = [v for v in values if math.isfinite(v)]
    for columns in (5, 15, 100, 250):  # coarse; coarse; fine; points where cut
        curve = store.reader.curve("loss", columns=columns)
        assert (min(curve.low), max(curve.high)) == (min(finite), max(finite))
        assert len(curve.lost) == 3 if columns > 40 else len(curve.lost) >= 2
        expected = brute([(i, v) for i, v in enumerate(values)], 0, n - 1, columns)
        assert curve.mean == pytest.approx([e[2] for e in expected], abs=0.25)  # an eighth of a column of a sine, at its steepest
    cut = store.reader.curve("loss", lo=66_000, hi=70_100, columns=64)
    agrees(cut, brute([(i, v) for i, v in enumerate(values)], 66_000, 70_100, 64))
    assert store.reader.value_at("loss", 66_000) == values[66_000]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from(["step", "hours"]), st.one_of(st.none(), st.floats()), st.one_of(st.none(), st.floats()), st.integers(-5, 10**6),
    st.booleans(),
)  # fmt: skip
def test_no_question_from_outside_brings_it_down(run: Any, axis: Any, lo: float | None, hi: float | None, columns: int, left: bool) -> None:
    answer = run.reader.curves(GetCurves(signals=["loss", "reward"], axis=axis, lo=lo, hi=hi, columns=columns, abandoned=left))
    assert all(len(c.x) == len(c.mean) <= 2000 for c in answer.curves)


def test_markers_and_common_range(run: Any) -> None:
    run.writer.checkpoint(CheckpointInfo(branch=0, step=2000, path="/c", bytes=1, good=True, verified=True, time=run.wall / 1e9 + 40))
    run.writer.log(LogEntry(id=0, time=run.wall / 1e9 + 50, kind="note", step=700, branch=0, status="operator", detail="coffee"))
    run.writer.log(LogEntry(id=0, time=run.wall / 1e9 + 50, kind="note", step=710, branch=0, status="info", detail="from the agent"))
    run.put([Happening(len(run.records) + 1, 9000, 1, run.mono + 10**12, events.KnobChanged(knob="lr", old=0.1, new=0.05, scale=0.5))])
    answer = run.reader.curves(GetCurves(signals=["loss", "val_loss", "loss"], columns=60, abandoned=True))
    assert [(c.signal, c.abandoned) for c in answer.curves] == [("loss", False), ("loss", True), ("val_loss", False), ("val_loss", True)]
    assert (answer.lo, answer.hi) == (1, 9000)
    assert all(c.x == answer.curves[0].x for c in answer.curves)
    assert [(m.kind, m.x) for m in answer.markers] == [("note", 700), ("checkpoint", 2000), ("restore", 2200), ("knob", 9000)]
    hours = run.reader.curves(GetCurves(signals=["loss"], columns=60, axis="hours"))
    assert [(m.kind, m.x) for m in hours.markers if m.kind in ("checkpoint", "note")] == [
        ("checkpoint", pytest.approx(40 / 3600)), ("note", pytest.approx(50 / 3600)),
    ]  # fmt: skip


def test_marks_of_another_version_are_left_out_and_are_no_damage(run: Any) -> None:
    strange = {"knob_changed": {"knob": "lr", "old": "a tenth"}, "restored": {"step": "the one before"}}
    came = [(kind, msgspec.msgpack.encode({"event": kind} | said)) for kind, said in strange.items()]
    unknown = [events.UnknownEvent(kind=kind, payload=payload, why="") for kind, payload in came]
    run.put([Happening(len(run.records) + 1 + i, 9000, 1, run.mono + 10**12, event) for i, event in enumerate(unknown)])
    assert [m.kind for m in run.reader.curves(GetCurves(signals=["loss"], columns=60)).markers] == ["restore"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.integers(0, 9000), st.integers(1, 3000), st.integers(1, 80))
def test_any_zoom_finds_its_extremes(run: Any, lo: int, span: int, columns: int) -> None:
    curve = run.reader.curve("loss", lo=lo, hi=lo + span, columns=columns)
    inside = [v for s, v in run.on_line if lo <= s <= lo + span and math.isfinite(v)]
    lows, highs = [v for v in curve.low if v == v], [v for v in curve.high if v == v]
    assert (min(lows, default=None), max(highs, default=None)) == (min(inside, default=None), max(inside, default=None))
