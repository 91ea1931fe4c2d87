"""One group's chunks as they lie in the history: what there is (from the pages), and single chunks at either depth.

Whoever calls holds a read transaction while it asks what there is; closed chunks never change, so they may be read one by one after it.
"""

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from sitter.store.chunks import DamagedChunkError, section
from sitter.store.growing import page_id, unpack_axes, unpack_column
from sitter.store.rolls import (
    COARSE,
    PAGE,
    Coarse,
    Entries,
    block_sizes,
    unpack_bounds,
    unpack_page_axes,
    unpack_page_column,
    unpack_rolls,
)


class GroupRow(NamedTuple):
    """Names that are logged together; ``host``: figures of the machine over wall time."""

    id: int
    host: bool
    names: tuple[str, ...]


class Points(NamedTuple):
    """Points of one signal as parallel sequences. Times in microseconds of the session's clock."""

    session: int
    branch: int
    seq: list[int]
    step: list[int]
    time: list[int]
    values: "array[float]"


class Rows(NamedTuple):
    """Points of a whole group: one column for each name."""

    session: int
    branch: int
    seq: list[int]
    step: list[int]
    time: list[int]
    columns: "list[array[float]]"


def groups(connection: sqlite3.Connection) -> list[GroupRow]:
    """All groups."""
    rows = connection.execute("SELECT id, host, names FROM groups ORDER BY id").fetchall()
    return [GroupRow(number, bool(host), tuple(msgspec.msgpack.decode(names, type=list[str]))) for number, host, names in rows]


def _span(group: int) -> tuple[int, int]:
    return group << 32, (group + 1 << 32) - 1


def _one(connection: sqlite3.Connection, sql: str, number: int) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(sql, (number,)).fetchone()
    if row is None:
        raise DamagedChunkError("a chunk or its roll-ups are missing")
    return row


def _pages(connection: sqlite3.Connection, table: str, group: int, column: int) -> list[bytes]:
    rows = connection.execute(
        f"SELECT data FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id", (page_id(group, column, 0), page_id(group, column, 0xFFFFF))
    )
    return [row[0] for row in rows.fetchall()]


def entries(connection: sqlite3.Connection, group: int, column: int) -> tuple[Entries, Coarse]:
    """Every closed chunk of a group, with the coarse roll-ups of one column: a row for 65,536 points, the newest 63 chunks one by one."""
    out = unpack_page_axes(_pages(connection, "pages", group, -1))
    coarse = unpack_page_column(_pages(connection, "pages", group, column))
    first, last = _span(group)
    rows = connection.execute(
        "SELECT id & 0xFFFFFFFF, n, session, branch, step_lo, step_hi, time_lo, time_hi, coarse FROM chunks WHERE id BETWEEN ? AND ?"
        " ORDER BY id",
        (first + len(out.no), last),
    ).fetchall()
    if rows:
        *axes, rolls = zip(*rows, strict=True)
        for into, values in zip(out, axes, strict=True):
            into.extend(values)
        of = slice(column * COARSE.size, (column + 1) * COARSE.size)
        for into_f, values in zip(coarse, zip(*COARSE.iter_unpack(b"".join([r[of] for r in rolls])), strict=True), strict=True):
            into_f.extend(values)
    return out, coarse


class Blocks(NamedTuple):
    """Fine roll-ups as parallel sequences: points, bounds on the one axis asked for, roll-ups.

    ``chunks``: number, first and last + 1 place in those sequences of each chunk.
    """

    chunks: list[tuple[int, int, int]]
    n: list[int]
    lo: list[int]
    hi: list[int]
    rolls: Coarse


def blocks(connection: sqlite3.Connection, group: int, column: int, listed: Entries, wanted: set[int], *, by_step: bool) -> Blocks:
    """Fine roll-ups of the chunks whose numbers are ``wanted``, and of what else lies on their pages. Bounds are steps, or times (µs)."""
    out = Blocks([], [], [], [], Coarse(*(array("d") for _ in Coarse._fields)))
    paged = len(listed.no) // PAGE  # numbers run from 0 without a gap

    def add(axes: bytes | memoryview, rolls: bytes | memoryview, numbers: Iterable[int]) -> None:
        before = len(out.n)
        for no in numbers:
            at = len(out.n)
            out.n.extend(block_sizes(listed.n[no]))
            out.chunks.append((no, at, len(out.n)))
        count = len(out.n) - before
        bounds = unpack_bounds(axes, count, by_step, not by_step)
        out.lo.extend(bounds.step_lo or bounds.time_lo)
        out.hi.extend(bounds.step_hi or bounds.time_hi)
        for into, part in zip(out.rolls, unpack_rolls(rolls, count), strict=True):
            into.extend(part)

    for page in sorted({no // PAGE for no in wanted}):
        numbers = range(page * PAGE, min((page + 1) * PAGE, len(listed.no)))
        if page < paged:
            where = "SELECT data FROM fine_pages WHERE id = ?"
            axes, rolls = (_one(connection, where, page_id(group, of, page))[0] for of in (-1, column))
            add(axes, rolls, numbers)
        else:
            for no in sorted(wanted.intersection(numbers)):
                (data,) = _one(connection, "SELECT data FROM fines WHERE chunk = ?", group << 32 | no)
                add(section(data, 0), section(data, column + 1), (no,))
    return out


def open_rows(connection: sqlite3.Connection, group: GroupRow, columns: list[int], *, times: bool = True) -> Rows | None:
    """What the open chunk has got so far, of the columns asked for; None where none is open. Times are left empty if not asked for."""
    first, last = _span(group.id)
    pieces = connection.execute(
        "SELECT n, session, branch, data FROM pieces WHERE chunk BETWEEN ? AND ? ORDER BY chunk, piece", (first, last)
    ).fetchall()
    if not pieces:
        return None
    out = Rows(pieces[0][1], pieces[0][2], [], [], [], [array("d") for _ in columns])
    for n, _, _, data in pieces:
        for whole, part in zip((out.seq, out.step, out.time), unpack_axes(data, n, times=times), strict=True):
            whole += part
        for i, column in enumerate(columns):
            out.columns[i].extend(unpack_column(data, n, column))
    return out


def open_points(connection: sqlite3.Connection, group: GroupRow, column: int, *, times: bool = True) -> Points | None:
    """The same of one column."""
    rows = open_rows(connection, group, [column], times=times)
    return None if rows is None else Points(rows.session, rows.branch, rows.seq, rows.step, rows.time, rows.columns[0])


def chunk_rows(connection: sqlite3.Connection, group: int, no: int, columns: list[int], *, times: bool = True) -> Rows:
    """A closed chunk's points. Times are left empty if not asked for."""
    n, session, branch, data = _one(connection, "SELECT n, session, branch, data FROM chunks WHERE id = ?", group << 32 | no)
    return Rows(session, branch, *unpack_axes(data, n, times=times), [unpack_column(data, n, c) for c in columns])


def chunk_points(connection: sqlite3.Connection, group: int, no: int, column: int, *, times: bool = True) -> Points:
    """The same of one column."""
    rows = chunk_rows(connection, group, no, [column], times=times)
    return Points(rows.session, rows.branch, rows.seq, rows.step, rows.time, rows.columns[0])


def backwards(connection: sqlite3.Connection, group: GroupRow) -> Iterator[Rows]:
    """The group's chunks from the newest back, whole."""
    columns = list(range(len(group.names)))
    newest = open_rows(connection, group, columns)
    if newest is not None:
        yield newest
    first, last = _span(group.id)
    (at,) = connection.execute("SELECT max(id) FROM chunks WHERE id BETWEEN ? AND ?", (first, last)).fetchone()
    if at is not None:
        for no in range(at & 0xFFFFFFFF, -1, -1):
            yield chunk_rows(connection, group.id, no, columns)
