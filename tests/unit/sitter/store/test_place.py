"""A history that is deleted or replaced while it is written to."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from sitter.model import LogEntry
from sitter.store.place import Place
from sitter.store.reader import Reader


def stored(path: Path) -> tuple[list[int], list[str]]:
    reader = Reader(path)
    try:
        return [p.seq for p in reader.last(10**6, ["loss"])], [line.detail for line in reader.logbook()]
    finally:
        reader.close()


def say(store: Any, text: str) -> None:
    store.writer.log(LogEntry(id=0, time=1.0, kind="note", detail=text))


def delete(path: Path) -> None:
    for part in path.parent.glob("history.db*"):
        part.unlink()


def delete_wal(path: Path) -> None:
    path.with_name("history.db-wal").unlink()


def replace(path: Path) -> None:
    delete(path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE another (x)")
    connection.close()


@pytest.mark.parametrize("harm", [delete, Path.unlink, delete_wal, replace])
def test_nothing_is_told_to_be_stored_that_has_no_name_and_all_is_put_back(store: Any, until: Any, harm: Any) -> None:
    store.put(store.points(3000))
    say(store, "before")
    assert store.writer.flush()
    until(lambda: {"s1": 3000} in store.committed)
    harm(store.path)
    assert store.writer.records(store.session, store.points(10, first_seq=3001))
    assert not store.writer.flush(0.1)
    until(lambda: store.writer.gone)
    assert {"s1": 3010} not in store.committed, "what is acknowledged is deleted by the agent"
    assert "deleted or replaced" in (store.writer.trouble or "")
    say(store, "after")
    store.writer.close()
    assert stored(store.path) == (list(range(1, 3011)), ["before", "after"])
    assert [p.name for p in store.path.parent.glob("*.back*")] == []
    aside = [p for p in store.path.parent.glob("history.db.replaced-*") if not p.name.endswith(("-wal", "-shm"))]
    assert len(aside) == (harm in (replace, delete_wal)), "what another has put there is nobody's to delete"
    store.open()
    store.put(store.points(10, first_seq=3011))


def test_one_that_is_deleted_when_all_is_said_is_put_back_too(store: Any) -> None:
    store.put(store.points(10))
    delete(store.path)
    store.writer.close()
    assert stored(store.path)[0] == list(range(1, 11))


def test_a_copy_that_takes_long_is_waited_for(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that left meanwhile would take the thread, and with it all there was, along."""
    copying, gives_up = threading.Event(), threading.Event()
    real = Place.put_back

    def slow(place: Place, *words: Any) -> None:
        place.puts_back = True
        copying.set()
        gives_up.wait(60)
        real(place, *words)

    monkeypatch.setattr(Place, "put_back", slow)
    monkeypatch.setattr("sitter.store.writer._CLOSE_WITHIN", 0.05)
    store.put(store.points(10))
    delete(store.path)
    leaving = threading.Thread(target=store.writer.close)
    leaving.start()
    assert copying.wait(60)
    leaving.join(0.2)
    assert leaving.is_alive()
    gives_up.set()
    leaving.join(60)
    assert stored(store.path)[0] == list(range(1, 11))


def test_where_the_whole_run_was_moved_the_history_goes_on_with_it(store: Any, tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    store.path = place / "history.db"
    store.open()
    store.put(store.points(10))
    place.rename(tmp_path / "moved")
    store.put(store.points(10, first_seq=11))
    place.mkdir()
    store.put(store.points(10, first_seq=21))
    store.writer.close()
    assert stored(tmp_path / "moved" / "history.db")[0] == list(range(1, 31))
    assert list(place.iterdir()) == [], "another folder of that name is none of its"


def test_one_that_comes_back_to_its_place_is_written_on(store: Any, until: Any) -> None:
    store.put(store.points(10))
    parts = sorted(store.path.parent.glob("history.db*"))
    for part in parts:
        part.rename(part.with_name(f"away-{part.name}"))
    assert store.writer.records(store.session, store.points(10, first_seq=11))
    assert not store.writer.flush(0.1)
    until(lambda: store.writer.gone)
    for part in parts:
        part.with_name(f"away-{part.name}").rename(part)
    assert store.writer.flush(60)
    assert store.writer.trouble is None
    assert not store.writer.gone
    assert stored(store.path)[0] == list(range(1, 21))
