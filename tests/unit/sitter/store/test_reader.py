"""What is asked of the history, also while it is written."""

import threading
from pathlib import Path
from typing import Any

import pytest

from sitter.errors import StoreError
from sitter.store import reader as reader_module
from sitter.store.reader import Reader
from sitter_wire import events
from sitter_wire.records import Happening, Point


def test_the_newest_points_in_the_order_logged(store: Any) -> None:
    records = []
    for i in range(7000):
        names = ("loss",) if i % 10 else ("loss", "val_loss")
        records.append(Point(i + 1, i, 0, store.mono + i * 1000, names, tuple(float(i) for _ in names)))
    store.put(records)
    tail = store.reader.tail(5000)
    assert [p.seq for p in tail] == list(range(2001, 7001))
    session, seq, step, branch, time, values = tail[0]
    assert (session, seq, step, branch, time, values) == ("s1", 2001, 2000, 0, store.mono + 2_000_000, {"loss": 2000.0, "val_loss": 2000.0})
    assert [p.seq for p in store.reader.last(3, ["val_loss"])] == [6971, 6981, 6991]
    assert store.reader.last(3, ["reward"]) == []


def test_sessions_are_ordered_by_their_clock_not_by_when_they_were_read(store: Any) -> None:
    store.put(store.points(10))
    store.writer.session("earlier", store.wall - 10**12, store.mono, 7)
    store.put(store.points(10), session="earlier")
    assert [p.session for p in store.reader.tail(20)] == ["earlier"] * 10 + ["s1"] * 10
    assert [s.session for s in store.reader.sessions()] == ["earlier", "s1"]
    _, times, _ = store.reader.points("loss")
    assert list(times) == sorted(times)


def test_a_value_is_the_last_one_at_or_before_a_step_of_the_present_line(store: Any) -> None:
    store.put([
        *store.points(3000, names=("loss",), value=lambda step, i: float(step)),
        Happening(3001, 2000, 1, store.mono, events.Restored(branch=1, step=2000, from_branch=0, left=2999, source="snapshot")),
        *store.points(100, first_seq=3002, first_step=2001, branch=1, value=lambda step, i: -float(step)),
        *store.points(5, first_seq=3102, first_step=500, stride=100, names=("val_loss",), value=lambda step, i: step / 10),
    ])  # fmt: skip
    value = store.reader.value_at
    assert [value("loss", s) for s in (0, 1999, 2000, 2001, 2100, 9999)] == [0.0, 1999.0, 2000.0, -2001.0, -2100.0, -2100.0]
    assert [value("val_loss", s) for s in (499, 500, 599, 10_000)] == [None, 50.0, 50.0, 90.0]
    assert value("loss", -5) is None
    assert value("reward", 5) is None
    assert store.reader.values_until("loss", 2002, 4) == [1999.0, 2000.0, -2001.0, -2002.0]


def test_points_for_exports_are_of_the_line_asked_for(store: Any) -> None:
    store.put([
        *store.points(100, value=lambda step, i: float(step)),
        Happening(101, 50, 1, store.mono, events.Restored(branch=1, step=49, from_branch=0, left=99, source="snapshot")),
        *store.points(20, first_seq=102, first_step=50, branch=1, value=lambda step, i: -float(step)),
    ])  # fmt: skip
    steps, times, values = store.reader.points("loss")
    assert list(steps) == list(range(70))
    assert list(values) == [float(s) if s < 50 else -float(s) for s in range(70)]
    assert times[0] == pytest.approx(store.wall / 1e9 + 0.01)
    assert list(store.reader.points("loss", store.reader.abandoned())[0]) == list(range(50, 100))
    assert [len(part) for part in store.reader.points("reward")] == [0, 0, 0]


def test_the_last_value_of_every_signal(store: Any) -> None:
    store.put([*store.points(1500, names=("loss", "lr")), Point(1501, 1499, 0, store.mono + 10**12, ("val_loss", "lr"), (2.5, 7.0))])
    now = store.reader.signals()
    assert {name: (s.last, s.step) for name, s in now.items()} == {
        "loss": (1499.0, 1499), "val_loss": (2.5, 1499), "lr": (7.0, 1499),
    }  # fmt: skip
    assert now["lr"].time == pytest.approx(store.wall / 1e9 + 1000)


def test_events_are_read_in_pages(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "PAGE", 7)
    store.put([Happening(i + 1, i, 0, store.mono, events.Remark(text=str(i))) for i in range(50)])
    pages = store.reader.events()
    assert next(pages).happening.event == events.Remark(text="0")
    # No transaction is open between pages: the writer's checkpoint is not held up, and the page after it sees what is new.
    assert not store.reader._connection.in_transaction
    store.put([Happening(51, 50, 0, store.mono, events.Remark(text="50"))])
    assert [e.happening.event.text for e in pages] == [str(i) for i in range(1, 51)]


def test_a_reader_beside_the_writer_sees_whole_commits_only(store: Any) -> None:
    """One thread writes batches of 10; readers look all the time, by every way there is."""
    store.put(store.points(10))
    stop, problems = threading.Event(), []

    def look() -> None:
        reader = Reader(store.path)
        newest = 0
        try:
            while not stop.is_set():
                last = reader.sequences()["s1"]
                tail = reader.tail(50)
                seqs = [p.seq for p in tail]
                assert last % 10 == 0
                assert seqs[-1] % 10 == 0
                assert seqs[-1] >= last >= newest
                assert seqs == list(range(seqs[0], seqs[-1] + 1))
                curve = reader.curve("loss", columns=3)
                assert max(curve.high) >= last - 1
                assert min(curve.low) == 0
                steps, _, values = reader.points("loss")
                assert list(steps) == list(range(len(steps)))
                assert list(values) == list(range(len(steps)))
                newest = last
        except Exception as e:
            problems.append(e)
        finally:
            reader.close()

    readers = [threading.Thread(target=look) for _ in range(2)]
    for r in readers:
        r.start()
    for i in range(1, 250):
        store.put(store.points(10, first_seq=10 * i + 1, first_step=10 * i))
    stop.set()
    for r in readers:
        r.join()
    assert problems == []
    assert store.reader.sequences() == {"s1": 2500}


def test_one_reader_serves_several_threads(store: Any) -> None:
    store.put(store.points(3000))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(store.reader.tail(2000)))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [2000] * 4


def test_a_reader_made_before_the_history_answers_once_it_is_there(tmp_path: Path, store: Any) -> None:
    early = Reader(tmp_path / "later.db")
    with pytest.raises(StoreError):
        early.sequences()
    store.put(store.points(5))
    store.writer.close()
    store.path.rename(tmp_path / "later.db")
    assert early.sequences() == {"s1": 5}
    early.close()


def test_an_empty_history_answers_everything(store: Any) -> None:
    store.writer.close()
    raw = store.reader
    assert raw.line() == []
    assert raw.branches() == []
    assert raw.signals() == {}
    assert raw.tail(10) == []
    assert raw.days() == []
    assert raw.logbook() == []
    assert raw.checkpoints() == []
    assert raw.incidents() == []
    assert raw.value_at("loss", 1) is None
    since = raw.since(0.0, 10.0)
    assert (since.seconds, since.steps, since.loss, since.gpu_idle) == (10.0, 0, (None, None), None)
