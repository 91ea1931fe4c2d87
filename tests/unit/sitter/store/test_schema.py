"""What opens, what is refused, and that a migration happens whole or not at all."""

import contextlib
import os
import random
import sqlite3
from pathlib import Path

import pytest

from sitter.clock import SystemClock
from sitter.errors import StoreError
from sitter.model import GpuNow, Xid
from sitter.store import schema
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire.events import Remark
from sitter_wire.records import Happening


def one_sentence(error: pytest.ExceptionInfo[StoreError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    for word in words:
        assert word in text


def writer(path: Path) -> Writer:
    return Writer(path, on_commit=lambda _: None, clock=SystemClock())


def filled(path: Path, make: "object") -> None:
    made = writer(path)
    made.start()
    made.records("s1", make(60_000, value=lambda step, i: random.random()))  # type: ignore[operator]
    made.close()


def changed(path: Path, *statements: str) -> None:
    """As a stranger, or a disk that fails, would change the file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for statement in statements:
            raw.execute(statement)


def test_a_new_history_has_its_version_and_the_record_of_it(tmp_path: Path) -> None:
    connection = schema.open_writer(tmp_path / "history.db")
    assert connection.execute("SELECT version FROM migrations").fetchall() == [(n + 1,) for n in range(len(schema.MIGRATIONS))]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_an_older_history_is_brought_up_to_date_with_its_content(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    first = (("CREATE TABLE t (x INTEGER)", "INSERT INTO t VALUES (7)"),)
    schema.open_writer(path, first).close()
    connection = schema.open_writer(path, (*first, ("ALTER TABLE t ADD COLUMN y INTEGER NOT NULL DEFAULT 3",)))
    assert connection.execute("SELECT x, y FROM t").fetchall() == [(7, 3)]
    assert connection.execute("SELECT version FROM migrations ORDER BY version").fetchall() == [(1,), (2,)]
    connection.close()


def test_a_migration_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    first = (("CREATE TABLE t (x INTEGER)",),)
    schema.open_writer(path, first).close()
    with pytest.raises(StoreError):
        schema.open_writer(path, (*first, ("ALTER TABLE t ADD COLUMN y INTEGER", "INSERT INTO nowhere VALUES (1)")))
    connection = schema.open_writer(path, first)
    assert [row[1] for row in connection.execute("PRAGMA table_info(t)")] == ["x"]
    assert connection.execute("SELECT version FROM migrations").fetchall() == [(1,)]
    connection.close()


def test_a_newer_history_is_refused_by_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    writer(path).close()
    changed(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreError) as e:
        writer(path)
    one_sentence(e, "newer", "99", "upgrade")
    with pytest.raises(StoreError) as e:
        Reader(path).sequences()
    one_sentence(e, "newer", "99", "upgrade")


def test_an_older_history_is_not_read_half(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.touch()
    with pytest.raises(StoreError) as e:
        Reader(path).sequences()
    one_sentence(e, "older")


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    changed(path, "CREATE TABLE cookies (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError) as e:
        writer(path)
    one_sentence(e, "another program")
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.write_text("dear diary " * 1000, encoding="utf-8")
    with pytest.raises(StoreError) as e:
        writer(path)
    one_sentence(e, "damaged", "moves it aside")
    with pytest.raises(StoreError) as e:
        Reader(path).sequences()
    one_sentence(e, "damaged", "moves it aside")


def test_a_history_overwritten_in_its_middle_is_refused(tmp_path: Path, points: object) -> None:
    path = tmp_path / "history.db"
    filled(path, points)
    size = path.stat().st_size
    with path.open("r+b") as file:
        for at in range(4096 * 3, size - 4096, 4096 * 3):
            file.seek(at)
            file.write(os.urandom(64))
    with pytest.raises(StoreError) as e:
        writer(path)
    one_sentence(e, "damaged")


def test_a_history_cut_short_is_refused(tmp_path: Path, points: object) -> None:
    path = tmp_path / "history.db"
    filled(path, points)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError) as e:
        writer(path)
    one_sentence(e, "damaged")


def test_damage_inside_a_chunk_is_said_and_no_traceback(tmp_path: Path, points: object) -> None:
    path = tmp_path / "history.db"
    filled(path, points)
    changed(path, "UPDATE chunks SET data = substr(data, 1, 100)")
    reader = Reader(path)
    asks = (
        lambda: reader.value_at("loss", 30_000), lambda: reader.tail(30_000), lambda: reader.points("loss"),
        lambda: reader.curve("loss", lo=100, hi=200),
    )  # fmt: skip
    for ask in asks:
        with pytest.raises(StoreError) as e:
            ask()
        one_sentence(e, "damaged")
    reader.close()


@pytest.mark.parametrize("damage", ["data || x'00'", "replace(data, x'68656c6c6f', x'68f46c6c6f')"])
def test_an_event_that_is_damaged_is_said_and_no_traceback(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "history.db"
    made = writer(path)
    made.start()
    assert made.records("s", [Happening(1, 0, 0, 1, Remark(text="hello"))])
    made.close()
    changed(path, f"UPDATE events SET data = CAST({damage} AS BLOB)")
    reader = Reader(path)
    with pytest.raises(StoreError) as e:
        list(reader.events())
    one_sentence(e, "damaged")
    reader.close()


def test_a_schema_that_is_no_text_any_more_is_said_and_no_traceback(tmp_path: Path, points: object) -> None:
    path = tmp_path / "history.db"
    filled(path, points)
    named = "UPDATE sqlite_master SET name = CAST(x'EFEF' AS TEXT), sql = 'CREATE TABLE (' WHERE name = 'logbook'"
    changed(path, "PRAGMA writable_schema = ON", named)
    for opens in (lambda: writer(path), lambda: Reader(path).sequences()):
        with pytest.raises(StoreError) as e:
            opens()
        one_sentence(e, "damaged")


def test_roll_ups_that_are_missing_are_said_and_no_traceback(tmp_path: Path, points: object) -> None:
    path = tmp_path / "history.db"
    filled(path, points)
    changed(path, "DELETE FROM fines")
    reader = Reader(path)
    with pytest.raises(StoreError) as e:
        reader.curve("loss", columns=200)
    one_sentence(e, "damaged", "missing")
    reader.close()


def test_no_history_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as e:
        Reader(tmp_path / "history.db").sessions()
    one_sentence(e, "no history")


def test_a_place_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as e:
        writer(tmp_path / "nowhere" / "history.db")
    one_sentence(e, "cannot be used", "folder")


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    writer(path).close()
    connection = schema.open_reader(path)
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("INSERT INTO state VALUES ('a', x'00')")
    connection.close()


OLDER = schema.MIGRATIONS[:1]
GPUS = [GpuNow(index=0, uuid="GPU-a", name="A", note="lost: GPU is lost", used_by_run=True, xids=[Xid(code=79, time=3.0)])]


def test_a_history_without_gpus_in_words_is_read_as_it_is_and_brought_up_to_date_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    old = schema.open_writer(path, OLDER)
    old.execute("INSERT INTO logbook VALUES (1, 5.0, 'note', NULL, NULL, NULL, NULL, 'info', 'hello')")
    old.close()
    reader = Reader(path)
    assert [entry.detail for entry in reader.logbook()] == ["hello"]
    assert reader.gpus() == []
    made = writer(path)
    made.start()
    made.gpus(7.0, GPUS)
    made.close()
    assert reader.gpus() == [(7_000_000, GPUS)]
    assert [entry.detail for entry in reader.logbook()] == ["hello"]
    reader.close()


def test_gpus_in_words_that_are_damaged_are_said_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    writer(path).close()
    changed(path, "INSERT INTO gpus (time, data) VALUES (1, x'00')")
    reader = Reader(path)
    with pytest.raises(StoreError) as e:
        reader.gpus()
    one_sentence(e, "damaged")
    reader.close()
