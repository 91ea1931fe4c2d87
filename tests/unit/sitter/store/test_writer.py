"""Committed once, in order, and nothing that goes wrong reaches the daemon."""

import contextlib
import math
import sqlite3
import struct
import tempfile
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitter.clock import SystemClock
from sitter.model import CheckpointInfo, Incident, LogEntry
from sitter.store import growing, happenings
from sitter.store import writer as writer_module
from sitter.store.reader import Reader
from sitter_wire import events
from sitter_wire.records import Happening, Point

Until = Callable[[Callable[[], object]], None]


def entry(detail: str = "", **fields: Any) -> LogEntry:
    return LogEntry(id=0, time=1.0, kind="note", detail=detail, **fields)


def stored(store: Any, signal: str = "loss") -> list[tuple[int, float]]:
    return [(p.seq, p.values[signal]) for p in store.reader.last(10**6, [signal])]


def test_what_was_given_is_committed_unasked(store: Any, until: Until) -> None:
    store.writer.records("s1", store.points(10))
    until(lambda: {"s1": 10} in store.committed)
    assert store.reader.sequences() == {"s1": 10}


def test_an_idle_writer_does_not_wake(store: Any, until: Until) -> None:
    assert store.writer.flush()
    until(lambda: store.committed)
    time.sleep(0.3)  # past what is left of its doze
    its_own = time.pthread_getcpuclockid(store.writer._thread.ident)
    commits, spent = len(store.committed), time.clock_gettime_ns(its_own)
    time.sleep(0.6)  # more than two commits' time in which nothing is given
    assert len(store.committed) == commits
    assert time.clock_gettime_ns(its_own) - spent < 20_000_000


def test_the_same_records_twice_are_stored_once(store: Any) -> None:
    records = store.points(3000)
    store.put(records[:2000])
    store.put(records[1000:])
    store.put(records)
    assert [seq for seq, _ in stored(store)] == list(range(1, 3001))


def test_records_sent_again_after_a_restart_are_stored_once(store: Any) -> None:
    records = store.points(2500)
    store.put(records[:1500])
    store.writer.close()
    store.open()
    store.put(records)
    assert [seq for seq, _ in stored(store)] == list(range(1, 2501))
    assert store.reader.sequences() == {"s1": 2500}


def test_values_come_back_bit_for_bit(store: Any) -> None:
    payloads = struct.unpack("<2d", bytes.fromhex("0100000000f0ff7f010000000000f87f"))  # NaNs, one of them signalling
    odd = [math.nan, -math.inf, math.inf, -0.0, 5e-324, 2.0**53, 1e308, *payloads]
    values = odd * 300  # open chunk and closed ones
    records = [Point(i + 1, i, 0, i * 1000, ("loss",), (v,)) for i, v in enumerate(values)]
    store.put(records)
    assert array("d", [v for _, v in stored(store)]).tobytes() == array("d", values).tobytes()


def test_steps_branches_and_times_come_back(store: Any) -> None:
    records = [
        Point(i + 1, step, branch, store.mono + i * 1_000_000, ("loss", "lr"), (float(i), 0.5))
        for i, (step, branch) in enumerate([(s, 0) for s in range(2000)] + [(s, 1) for s in range(1500, 3000)])
    ]
    store.put(records)
    got = store.reader.tail(10**6)
    assert [(p.session, p.seq, p.step, p.branch, p.time) for p in got] == [("s1", r.seq, r.step, r.branch, r.time) for r in records]
    assert [p.values for p in got] == [dict(zip(r.names, r.values, strict=True)) for r in records]


def test_groups_that_alternate_keep_their_order(store: Any) -> None:
    records: list[Point] = []
    for i in range(4000):
        names = (("loss", "grad_norm"), ("lr",), ("val_loss",))[0 if i % 2 else 1 if i % 50 else 2]
        records.append(Point(i + 1, i // 2, 0, i * 1000, names, tuple(float(i) for _ in names)))
    for at in range(0, 4000, 170):
        store.put(records[at : at + 170])
    assert [p.seq for p in store.reader.tail(4000)] == list(range(1, 4001))
    assert [seq for seq, _ in stored(store, "val_loss")] == [r.seq for r in records if r.names == ("val_loss",)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(
    st.integers(1, 700), st.sampled_from([("loss",), ("loss", "lr"), ("val_loss",)]), st.integers(0, 2),
    st.sampled_from(["a", "b"]), st.sampled_from(["", "", "commit", "reopen"]),
), max_size=14))  # fmt: skip
def test_whatever_comes_in_whatever_order_comes_back(batches: list[tuple[int, tuple[str, ...], int, str, str]]) -> None:
    """Groups, branches and sessions in turn, commits and restarts anywhere between."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.db"
        given_: dict[str, list[tuple[int, int, int, int, dict[str, float]]]] = {"a": [], "b": []}
        writer = writer_module.Writer(path, on_commit=lambda _: None, clock=SystemClock())
        writer.start()
        for session in given_:
            writer.session(session, 10**18 if session == "a" else 2 * 10**18, 0)
        for n, names, branch, session, then in batches:
            had = given_[session]
            values = [tuple(i / (k + 1) for k in range(len(names))) for i in range(n)]
            records = [Point(len(had) + 1 + i, 7 * i, branch, 1000 * i, names, v) for i, v in enumerate(values)]
            had += [(r.seq, r.step, r.branch, r.time, dict(zip(r.names, r.values, strict=True))) for r in records]
            assert writer.records(session, records)
            if then:
                assert writer.flush()
            if then == "reopen":
                writer.close()
                writer = writer_module.Writer(path, on_commit=lambda _: None, clock=SystemClock())
                writer.start()
        writer.close()
        reader = Reader(path)
        got = reader.tail(10**6)
        assert [(p.seq, p.step, p.branch, p.time, p.values) for p in got] == given_["a"] + given_["b"]
        assert [p.session for p in got] == ["a"] * len(given_["a"]) + ["b"] * len(given_["b"])
        reader.close()


def test_many_groups_do_not_stay_in_memory_and_lose_nothing(store: Any) -> None:
    seq = 0
    for round_ in range(3):
        batch = []
        for g in range(3 * growing.HOT):
            seq += 1
            batch.append(Point(seq, round_, 0, seq * 1000, (f"signal{g}",), (float(seq),)))
        store.put(batch)
    groups = store.writer._growing._by_id.values()
    assert sum(g.open is not None for g in groups) <= growing.HOT
    assert len(store.reader.tail(10**6)) == seq


def test_an_open_chunk_of_many_small_commits_is_few_rows(store: Any) -> None:
    for i in range(60):
        store.put(store.points(3, first_seq=1 + 3 * i, first_step=3 * i))
    raw = sqlite3.connect(store.path)
    assert raw.execute("SELECT count(*) FROM pieces").fetchone()[0] <= growing.PIECES
    raw.close()
    assert [seq for seq, _ in stored(store)] == list(range(1, 181))


def test_events_go_to_their_table_and_holes_nowhere(store: Any) -> None:
    start = events.SessionStart(pid=42, host="h", branch=0, goal="val_loss")
    store.put([
        Happening(1, 0, 0, store.mono, start), Happening(2, 0, 0, store.mono, events.Hole()),
        *store.points(3, first_seq=3), Happening(6, 3, 0, store.mono + 10**9, events.Paused(paused=True, why="me")),
    ])  # fmt: skip
    got = list(store.reader.events())
    assert [(e.happening.seq, e.happening.event) for e in got] == [(1, start), (6, events.Paused(paused=True, why="me"))]
    assert got[1].wall == pytest.approx(store.wall / 1e9 + 1)
    (session,) = store.reader.sessions()
    assert (session.pid, session.host, session.start) == (42, "h", start)
    assert [e.happening.seq for e in store.reader.events(["paused"])] == [6]
    assert list(store.reader.events(after=got[-1].id)) == []


def test_branches_are_known_from_the_events_alone(store: Any) -> None:
    store.put([
        Happening(1, 0, 0, store.mono, events.SessionStart(pid=1, host="h", branch=0)),
        *store.points(100, first_seq=2),
        Happening(102, 50, 1, store.mono, events.Restored(branch=1, step=50, from_branch=0, left=99, source="snapshot")),
        *store.points(10, first_seq=103, first_step=51, branch=1),
    ])  # fmt: skip
    assert [(b.branch, b.parent_branch, b.parent_step) for b in store.reader.branches()] == [(0, None, None), (1, 0, 50)]
    assert store.reader.line() == [(0, -1, 50), (1, 50, None)]
    # A trainer that was started again from a checkpoint of step 55.
    start = events.SessionStart(pid=2, host="h", branch=2, resumed=(1, 55))
    store.put([Happening(1, 55, 2, store.mono, start), *store.points(5, first_seq=2, first_step=56, branch=2)], session="s2")
    assert store.reader.line() == [(0, -1, 50), (1, 50, 55), (2, 55, None)]
    assert list(store.reader.points("loss")[0]) == list(range(61))


def test_points_of_a_branch_nobody_announced_are_drawn_all_the_same(store: Any) -> None:
    store.put(store.points(10, branch=3))
    assert store.reader.line() == [(3, -1, None)]


def test_log_lines_get_numbers_that_go_on_after_a_restart(store: Any) -> None:
    assert [store.writer.log(entry(f"line {i}")) for i in range(3)] == [1, 2, 3]
    store.writer.close()
    assert store.open().log(entry("after")) == 4
    assert store.writer.flush()
    assert [(line.id, line.detail) for line in store.reader.logbook()] == [(1, "line 0"), (2, "line 1"), (3, "line 2"), (4, "after")]
    assert [line.id for line in store.reader.logbook(after=1, limit=2)] == [3, 4]


def test_numbers_are_given_once_by_however_many_threads(store: Any) -> None:
    given: list[int] = []
    threads = [threading.Thread(target=lambda: given.extend(store.writer.log(entry()) for _ in range(200))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(given) == list(range(1, 801))
    assert store.writer.flush()
    assert len(store.reader.logbook(limit=10_000)) == 800


def test_checkpoints_incidents_and_state_are_replaced(store: Any) -> None:
    w = store.writer
    made = CheckpointInfo(branch=0, step=10, path="/c/10-0", bytes=5, good=False, verified=True, time=3.0, sha256="ab")
    w.checkpoint(made)
    w.checkpoint(CheckpointInfo(branch=0, step=20, path="/c/20-0", bytes=5, good=False, verified=True))
    good = CheckpointInfo(branch=0, step=10, path="/c/10-0", bytes=5, good=True, verified=True, best=True, time=3.0, sha256="ab")
    w.checkpoint(good)
    w.forget_checkpoint("/c/20-0")
    w.incident(Incident(id=1, rule="spike", branch=0, onset=5, began=1.0, text="t"))
    ended = Incident(id=1, rule="spike", branch=0, onset=5, began=1.0, text="t", ended=2.0, verdict="recovered", steps_lost=3)
    w.incident(ended)
    w.set("seen", 1.5)
    w.set("seen", {"at": 2.5, "who": ["me", None]})
    assert w.flush()
    assert store.reader.checkpoints() == [good]
    assert store.reader.incidents() == [ended]
    assert store.reader.get("seen") == {"at": 2.5, "who": ["me", None]}
    assert store.reader.get("nothing", 7) == 7


def test_figures_of_the_machine_are_signals_over_wall_time(store: Any) -> None:
    for i in range(1100):
        store.writer.host(2e9 + i, {"gpu0.util": float(i % 100), "gpu0.temp": None, "cpu": 5.0})
    assert store.writer.flush()
    store.writer.close()
    store.open()
    store.writer.host(2e9 + 1100, {"gpu0.util": 77.0, "cpu": 6.0})
    assert store.writer.flush()
    now = store.reader.signals()
    assert set(now) == {"gpu0.util", "cpu"}
    assert (now["gpu0.util"].last, now["gpu0.util"].time) == (77.0, 2e9 + 1100)
    _, times, values = store.reader.points("gpu0.util")
    assert list(times) == [2e9 + i for i in range(1101)]
    assert list(values) == [float(i % 100) for i in range(1100)] + [77.0]


def test_a_locked_history_is_waited_for_and_nothing_is_lost(store: Any, until: Until) -> None:
    assert store.writer.flush()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.writer.records("s1", store.points(500))
    store.writer.log(entry("kept"))
    until(lambda: store.writer.trouble)
    assert "locked" in store.writer.trouble
    store.writer.records("s1", store.points(1500, first_seq=501, first_step=500))
    other.execute("ROLLBACK")
    other.close()
    until(lambda: store.writer.trouble is None)
    assert store.writer.flush()
    assert [seq for seq, _ in stored(store)] == list(range(1, 2001))
    assert [line.detail for line in store.reader.logbook()] == ["kept"]


def test_what_is_promised_is_told_to_be_safe_once_it_is_on_disk_and_unsafe_where_it_cannot_be(store: Any, until: Until) -> None:
    told: list[bool] = []
    store.writer.leisure(True)

    def promise(value: int) -> None:
        """Tells what another process would read at that moment."""
        store.writer.set("promise", value)
        store.writer.when_safe(lambda safe: told.append(safe and store.reader.get("promise") == value))

    promise(1)
    until(lambda: told == [True])
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    promise(2)
    until(lambda: told == [True, False])
    promise(3)  # it is known by now that nothing can be written: nobody waits for that
    assert told == [True, False, False]
    other.execute("ROLLBACK")
    other.close()
    until(lambda: store.writer.trouble is None)
    assert store.reader.get("promise") == 3
    store.writer.close()
    promise(4)
    assert told == [True, False, False, False]


def test_a_full_disk_is_waited_for_and_nothing_is_lost(store: Any, until: Until) -> None:
    assert store.writer.flush()
    # SQLite itself says "database or disk is full" at this bound, by the same path as for ENOSPC.
    store.writer._connection.execute("PRAGMA max_page_count = 1")
    for at in range(0, 20_000, 1000):
        assert store.writer.records("s1", store.points(1000, first_seq=at + 1, first_step=at, value=lambda s, i: math.sin(s)))
    until(lambda: store.writer.trouble)
    assert "full" in store.writer.trouble
    assert store.reader.sequences() == {"s1": 0}
    store.writer._connection.execute("PRAGMA max_page_count = 1000000")
    until(lambda: store.writer.trouble is None)
    assert store.writer.flush()
    assert stored(store) == [(s + 1, math.sin(s)) for s in range(20_000)]


def test_what_waits_is_bounded_and_a_refusal_leaves_no_hole(store: Any, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MOST", 2000)
    assert store.writer.flush()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    records = store.points(10_000)
    taken = 0
    while store.writer.records("s1", records[taken : taken + 500]):
        taken += 500
        assert taken <= 3000
    assert not store.writer.room
    assert not store.writer.records("s1", records[taken + 500 : taken + 1000])
    other.execute("ROLLBACK")
    other.close()
    until(lambda: store.writer.room)
    assert not store.writer.records("s1", records[taken + 500 : taken + 1000]), "past a refusal: would have made a hole"
    for at in range(taken, 10_000, 500):
        until(lambda: store.writer.room)
        assert store.writer.records("s1", records[at : at + 500])
    assert store.writer.flush()
    assert [seq for seq, _ in stored(store)] == list(range(1, 10_001))


def test_a_listener_that_fails_does_not_end_the_history(tmp_path: Any, points: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: dict[str, int]) -> None:
        raise RuntimeError("listener")

    w = writer_module.Writer(tmp_path / "h.db", on_commit=fail, clock=SystemClock())
    w.start()
    w.records("s1", points(5))
    assert w.flush()
    w.records("s1", points(5, first_seq=6))
    assert w.flush()
    w.close()
    assert "after a commit" in caplog.text
    reader = Reader(tmp_path / "h.db")
    assert reader.sequences() == {"s1": 10}
    reader.close()


def test_one_thing_that_cannot_be_stored_keeps_nothing_else_from_it(store: Any) -> None:
    store.writer.log(entry("before"))
    store.writer.log(entry("a lone surrogate \ud800"))
    store.writer.log(entry("too large", step=2**70))
    store.writer.log(entry("after"))
    store.put(store.points(5))
    assert store.writer.dropped == 2
    assert store.writer.trouble is None
    assert [line.detail for line in store.reader.logbook()] == ["before", "after"]


def test_close_commits_what_was_given(store: Any) -> None:
    store.writer.records("s1", store.points(100))
    store.writer.log(entry("last words"))
    store.writer.close()
    assert store.reader.sequences() == {"s1": 100}
    assert [line.detail for line in store.reader.logbook()] == ["last words"]
    assert not store.writer._thread.is_alive()


def test_close_is_bounded_where_nothing_can_be_written(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_CLOSE_WITHIN", 0.3)
    assert store.writer.flush()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.writer.records("s1", store.points(10))
    began = time.monotonic()
    store.writer.close()
    assert time.monotonic() - began < 30, "whoever has it keeps it"
    other.execute("ROLLBACK")
    other.close()


def test_an_unknown_sessions_times_are_wall_times_by_the_daemons_own_clock(store: Any) -> None:
    now, wall = time.monotonic_ns(), time.time()
    store.put([Point(1, 0, 0, now, ("loss",), (1.0,))], session="other")
    _, times, _ = store.reader.points("loss")
    assert times[0] == pytest.approx(wall, abs=5)


def test_snapshots_of_weeks_do_not_fill_the_history(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "NEWEST", 10)
    taken = events.SnapshotTaken(slot=0, branch=0, step=1, bytes=1, seconds=0.0)
    others = [events.SessionStart(pid=1, host="h", branch=0), events.Remark(level="info", text="a")]
    kept = [Happening(1 + i, 0, 0, 0, event) for i, event in enumerate(others)]
    store.put([*kept, *(Happening(3 + i, 1, 0, 0, taken) for i in range(35))])
    assert [e.happening.seq for e in store.reader.events(["start", "remark"])] == [1, 2]
    assert [e.happening.seq for e in store.reader.events(["snapshot"])] == list(range(23, 38)), "between one and two times as many"
    assert store.reader.sequences() == {"s1": 37}


def test_events_of_another_version_are_kept_as_they_came_and_do_not_fill_the_history(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(happenings, "NEWEST", 10)
    monkeypatch.setattr(happenings, "MOST_UNKNOWN", 3)
    kinds = ["a" if i < 35 else f"k{i}" for i in range(45)]
    payloads = [msgspec.msgpack.encode({"event": kind, "n": i}) for i, kind in enumerate(kinds)]
    unknown = [events.UnknownEvent(kind=kind, payload=payload, why="new") for kind, payload in zip(kinds, payloads, strict=True)]
    strange = msgspec.msgpack.encode({"event": "remark", "text": "a", "level": "grave"})
    remarks: list[Any] = [events.Remark(text="a")] * 12 + [events.UnknownEvent(kind="remark", payload=strange, why="level")] * 12
    store.put([Happening(1 + i, 0, 0, 0, event) for i, event in enumerate([*unknown, *remarks])])
    with contextlib.closing(sqlite3.connect(store.path)) as history:
        kept = history.execute("SELECT kind, data FROM events ORDER BY id").fetchall()
    assert [data for kind, data in kept if kind == "a"] == payloads[20:35]
    assert len({kind for kind, _ in kept if kind.startswith("k")}) == 2, "kinds have an end, too"
    assert len([kind for kind, _ in kept if kind == "remark"]) == 24, "of a kind that is known nothing is forgotten for one that is not"
    assert [e.happening.event for e in store.reader.events()] == [events.Remark(text="a")] * 12
    assert store.reader.sequences() == {"s1": 69}


class BrokenError(Exception):
    """Of our own, in the writer's thread."""


def broken(*_: Any) -> None:
    raise BrokenError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_that_cannot_put_its_history_back_either_has_ended_all_the_same(
    store: Any, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(store.points(10))
    store.path.unlink()
    told: list[bool] = []
    monkeypatch.setattr(store.writer, "_commit", broken)
    store.writer.set("a", 1)
    store.writer.when_safe(told.append)
    until(lambda: store.writer.ended)
    until(lambda: told == [False])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_its_thread_has_died_nothing_is_kept_for_ever_nor_called_stored(
    store: Any, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(store.points(10))
    monkeypatch.setattr(store.writer, "_drain", broken)
    store.writer.set("a", 1)
    until(lambda: store.writer.ended)
    waiting = len(store.writer._queue)
    assert not store.writer.room
    for n in range(100):
        store.writer.set("a", n)
        store.writer.host(float(n), {"cpu": 1.0})
        assert not store.writer.records(store.session, store.points(1, first_seq=11 + n)), "the agent keeps them"
    assert len(store.writer._queue) == waiting
    assert store.writer.dropped == 200
    assert not store.writer.flush(0.0)
    told: list[bool] = []
    store.writer.when_safe(told.append)
    assert told == [False]
    assert "nothing is stored any more" in store.writer.trouble
    store.writer.close()
    assert store.reader.sequences() == {store.session: 10}
    store.open()
    store.put(store.points(1, first_seq=11))
    assert store.reader.sequences() == {store.session: 11}, "another one goes on where it ended"


def test_what_waits_for_a_thread_that_hangs_is_bounded(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MOST_STATEMENTS", 50)
    hangs, goes_on = threading.Event(), threading.Event()
    commit = store.writer._commit

    def hang() -> bool:
        hangs.set()
        assert goes_on.wait(60)
        return bool(commit())

    monkeypatch.setattr(store.writer, "_commit", hang)
    store.writer.set("a", -1)
    assert hangs.wait(60)
    for n in range(200):
        store.writer.set("a", n)
    assert store.writer.records(store.session, store.points(10)), "of records there is a bound of their own"
    assert (len(store.writer._queue), store.writer.dropped) == (51, 150)
    goes_on.set()
    assert store.writer.flush(60)
    assert store.reader.get("a") == 49
    assert store.reader.sequences() == {store.session: 10}
