"""The open chunk of each group, and the rows that a commit needs to keep it.

Memory first, then rows: what was taken stays here until its commit succeeded, and every row is a replacement, so a commit that failed
(disk full, locked) is simply tried again.
"""

import logging
import sqlite3
from array import array
from collections.abc import Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import NamedTuple

import msgspec

from sitter.store.chunks import (
    CHUNK,
    DamagedChunkError,
    join,
    pack_floats,
    pack_ints,
    section,
    unpack_floats,
    unpack_ints,
)
from sitter.store.rolls import (
    COARSE,
    PAGE,
    Coarse,
    block_sizes,
    blocks,
    fine_axes,
    merge,
    pack_fine,
    pack_fine_axes,
    pack_page_axes,
    pack_page_column,
    pack_rolls,
    unpack_fine,
    unpack_fine_axes,
)
from sitter_wire.records import Point

log = logging.getLogger(__name__)

PIECES = 16
"""Rows that an open chunk may consist of before they are made one."""

HOT = 16
"""Groups whose open chunk stays in memory (57 to 230 KiB each); others are read again when a point comes."""

Statement = tuple[str, tuple[object, ...]]

PUT_PIECE = "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?, ?, ?, ?)"
PUT_CHUNK = "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PUT_FINE = "INSERT OR REPLACE INTO fines VALUES (?, ?)"
DROP_PIECES = "DELETE FROM pieces WHERE chunk = ?"


def pack_points(seq: list[int], step: list[int], time: list[int], columns: Sequence[Sequence[float]]) -> bytes:
    """Points of one group as one blob; times in microseconds."""
    return join((pack_ints(seq), pack_ints(step), pack_ints(time), *(pack_floats(array("d", c)) for c in columns)))


def unpack_axes(data: bytes, n: int, *, times: bool = True) -> tuple[list[int], list[int], list[int]]:
    """Sequences, steps and times (µs; the dearest to unpack, left empty if not asked for) of such a blob. Raises DamagedChunkError."""
    seq, step = (unpack_ints(section(data, i), n) for i in range(2))
    return seq, step, unpack_ints(section(data, 2), n) if times else []


def unpack_column(data: bytes, n: int, column: int) -> "array[float]":
    """Values of one of its columns. Raises DamagedChunkError."""
    return unpack_floats(section(data, 3 + column), n)


def page_id(group: int, column: int, page: int) -> int:
    """Of a page of roll-ups; column −1 has the axes."""
    return group << 32 | column + 1 << 20 | page


class Closed(NamedTuple):
    """A chunk that is full, packed: its row, and its fine roll-ups."""

    chunk: int
    row: tuple[object, ...]
    fine: bytes


def closed(
    chunk: int, session: int, branch: int, seq: list[int], step: list[int], time: list[int], columns: list[list[float]]
) -> Closed:
    """Packs a chunk for good."""
    n = len(seq)
    rolls = [blocks(c) for c in columns]
    axes = fine_axes(step, time)
    sizes = block_sizes(n)
    coarse = b"".join(COARSE.pack(*merge(r, sizes)) for r in rolls)
    row = (
        chunk, n, session, branch, seq[0], seq[-1], min(axes.step_lo), max(axes.step_hi), min(axes.time_lo), max(axes.time_hi), coarse,
        pack_points(seq, step, time, columns),
    )  # fmt: skip
    return Closed(chunk, row, pack_fine(axes, rolls))


def _alike(points: list[Point]) -> list[list[Point]]:
    """The points by the tuple of their names. By identity, since hashing four strings for each would cost more than storing them."""
    names = points[0].names
    if all([p.names is names for p in points]):
        return [points]
    alike: dict[int, list[Point]] = {}
    for p in points:
        try:
            alike[id(p.names)].append(p)
        except KeyError:
            alike[id(p.names)] = [p]
    return list(alike.values())


class OpenChunk:
    """Points of one group, session and branch that do not fill a chunk yet."""

    def __init__(self, chunk: int, session: int, branch: int, width: int) -> None:
        self.chunk, self.session, self.branch = chunk, session, branch
        self.seq: list[int] = []
        self.step: list[int] = []
        self.time: list[int] = []
        self.columns: list[list[float]] = [[] for _ in range(width)]
        self.pieces = 0
        self.stored = 0
        self._next_pieces = 0
        self._next_stored = 0

    def extend(self, points: list[Point]) -> None:
        """Takes them all, or raises ValueError and takes none; the caller sees to it that there is room."""
        width = len(self.columns)
        flat = list(chain.from_iterable([p.values for p in points]))  # half the time of zip(*…), which hops between the points
        if len(flat) != width * len(points):
            raise ValueError(f"{len(flat)} values in {len(points)} points of {width} names")
        self.seq += [p.seq for p in points]
        self.step += [p.step for p in points]
        self.time += [p.time // 1000 for p in points]
        for i, column in enumerate(self.columns):
            column += flat[i::width]

    def statements(self) -> list[Statement]:
        """What brings the pieces on disk up to date; ``committed`` says that it did."""
        n = len(self.seq)
        self._next_pieces, self._next_stored = self.pieces, n
        if n == self.stored:
            return []
        start = self.stored
        out: list[Statement] = []
        if self.pieces >= PIECES:
            start = 0
            out.append((DROP_PIECES, (self.chunk,)))
        number = self.pieces if start else 0
        data = pack_points(self.seq[start:], self.step[start:], self.time[start:], [c[start:] for c in self.columns])
        out.append((PUT_PIECE, (self.chunk, number, n - start, self.session, self.branch, self.seq[-1], data)))
        self._next_pieces = number + 1
        return out

    def committed(self) -> None:
        """The statements last given are in the history."""
        self.pieces, self.stored = self._next_pieces, self._next_stored

    def closed(self) -> Closed:
        """As a closed chunk."""
        return closed(self.chunk, self.session, self.branch, self.seq, self.step, self.time, self.columns)


class Group:
    """Names that are logged together, the number of the next chunk, and the open one if it is in memory."""

    def __init__(self, number: int, names: tuple[str, ...], *, host: bool, chunks: int = 0, stored: bool = False) -> None:
        self.number, self.names, self.host = number, names, host
        self.chunks = chunks
        self.stored = stored
        self.open: OpenChunk | None = None
        self.cold = stored
        self.touched = 0

    def chunk_id(self) -> int:
        """Of the chunk that is open or comes next."""
        return self.number << 32 | self.chunks


class Growing:
    """All groups: takes points into memory, gives the statements of a commit. Used by the writer's thread only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Reads what groups there are; their open chunks are read when needed. sqlite3.Error passes."""
        self._connection = connection
        self._groups: dict[tuple[bool, tuple[str, ...]], Group] = {}
        self._by_id: dict[int, Group] = {}
        self._closed: list[Closed] = []
        self._dirty: set[int] = set()
        self._commits = 0
        for number, host, names in connection.execute("SELECT id, host, names FROM groups"):
            key = (bool(host), tuple(msgspec.msgpack.decode(names, type=list[str])))
            self._groups[key] = self._by_id[number] = Group(number, key[1], host=key[0], stored=True)
        for group in self._by_id.values():
            (last,) = connection.execute(
                "SELECT max(id) FROM chunks WHERE id BETWEEN ? AND ?", (group.number << 32, (group.number + 1 << 32) - 1)
            ).fetchone()
            group.chunks = 0 if last is None else (last & 0xFFFFFFFF) + 1

    def _group(self, host: bool, names: tuple[str, ...]) -> Group:
        group = self._groups.get((host, names))
        if group is None:
            group = Group(max(self._by_id, default=0) + 1, names, host=host)
            self._groups[host, names] = self._by_id[group.number] = group
            self._dirty.add(group.number)
        return group

    def take(self, session: int, points: list[Point], *, host: bool = False) -> set[int]:
        """Points of one session in sequence order, all of them new; the branches they are of.

        sqlite3.Error passes; then nothing was taken.
        """
        by_group: dict[Group, list[Point]] = {}
        for some in _alike(points):
            group = self._group(host, some[0].names)
            if group in by_group:  # the same names by another tuple
                by_group[group] = sorted(by_group[group] + some, key=attrgetter("seq"))
            else:
                by_group[group] = some
        for group in by_group:
            self._warm(group)  # whatever can fail comes before anything is changed
        seen: set[int] = set()
        for group, some in by_group.items():
            branches = {p.branch for p in some}
            seen |= branches
            if len(branches) == 1:
                self._take(group, session, some[0].branch, some)
            else:
                for branch, run in groupby(some, key=attrgetter("branch")):
                    self._take(group, session, branch, list(run))
        return seen

    def _take(self, group: Group, session: int, branch: int, points: list[Point]) -> None:
        chunk = self._warm(group)
        if chunk is not None and (chunk.session != session or chunk.branch != branch):
            self._close(group, chunk)
            chunk = None
        at = 0
        while at < len(points):
            if chunk is None:
                chunk = group.open = OpenChunk(group.chunk_id(), session, branch, len(group.names))
            room = CHUNK - len(chunk.seq)
            chunk.extend(points[at : at + room])
            at += room
            if len(chunk.seq) == CHUNK:
                self._close(group, chunk)
                chunk = None
        self._dirty.add(group.number)
        group.touched = self._commits

    def last_host_seq(self, names: tuple[str, ...]) -> int:
        """Last sequence number of a host group (they number themselves)."""
        group = self._groups.get((True, names))
        if group is None:
            return 0
        chunk = self._warm(group)
        if chunk is not None:
            return chunk.seq[-1]
        row = self._connection.execute("SELECT last_seq FROM chunks WHERE id = ?", (group.chunk_id() - 1,)).fetchone()
        return int(row[0]) if row else 0

    def _warm(self, group: Group) -> OpenChunk | None:
        """The group's open chunk, read from its pieces if they are all there is of it."""
        if not group.cold:
            return group.open
        chunk: OpenChunk | None = None
        rows = self._connection.execute(
            "SELECT n, session, branch, data FROM pieces WHERE chunk = ? ORDER BY piece", (group.chunk_id(),)
        ).fetchall()
        try:
            for n, session, branch, data in rows:
                chunk = chunk or OpenChunk(group.chunk_id(), session, branch, len(group.names))
                for whole, part in zip((chunk.seq, chunk.step, chunk.time), unpack_axes(data, n), strict=True):
                    whole += part
                for i, column in enumerate(chunk.columns):
                    column += unpack_column(data, n, i)
        except DamagedChunkError as e:
            # The disk did this. What comes after it must still be stored: the open chunk begins anew.
            log.error("the open chunk of %s is damaged (%s) and given up", ", ".join(group.names), e)
            chunk, rows = None, []
            self._connection.execute(DROP_PIECES, (group.chunk_id(),))
        if chunk is not None:
            chunk.pieces, chunk.stored = len(rows), len(chunk.seq)
        group.open, group.cold = chunk, False
        return chunk

    def _close(self, group: Group, chunk: OpenChunk) -> None:
        self._closed.append(chunk.closed())
        group.open = None
        group.chunks += 1

    def write(self) -> None:
        """Everything new, inside the caller's transaction. sqlite3.Error passes; then nothing here has changed."""
        execute = self._connection.execute
        dirty = [self._by_id[number] for number in self._dirty]
        for group in dirty:
            if not group.stored:
                execute(
                    "INSERT OR REPLACE INTO groups VALUES (?, ?, ?)", (group.number, int(group.host), msgspec.msgpack.encode(group.names))
                )
        for chunk, row, fine in self._closed:
            execute(PUT_CHUNK, row)
            execute(PUT_FINE, (chunk, fine))
            execute(DROP_PIECES, (chunk,))
            if chunk % PAGE == PAGE - 1:
                try:
                    self._page(chunk)
                except DamagedChunkError as e:
                    raise sqlite3.DatabaseError(f"malformed: {e}") from e
        for group in dirty:
            if group.open is not None:
                for sql, parameters in group.open.statements():
                    execute(sql, parameters)

    def _page(self, last: int) -> None:
        """The 64 chunks that end with ``last`` get their pages. Chunks are only ever closed in order, so all of them are there."""
        group, page = last >> 32, (last & 0xFFFFFFFF) // PAGE
        rows = self._connection.execute(
            "SELECT id & 0xFFFFFFFF, n, session, branch, step_lo, step_hi, time_lo, time_hi, coarse, fines.data"
            " FROM chunks JOIN fines ON chunk = id WHERE id BETWEEN ? AND ? ORDER BY id",
            (last - PAGE + 1, last),
        ).fetchall()
        coarse, fine = "INSERT OR REPLACE INTO pages VALUES (?, ?)", "INSERT OR REPLACE INTO fine_pages VALUES (?, ?)"
        sizes = [(r[-1], r[1]) for r in rows]
        axes = page_id(group, -1, page)
        self._connection.execute(coarse, (axes, pack_page_axes([r[:-2] for r in rows])))
        self._connection.execute(fine, (axes, pack_fine_axes([unpack_fine_axes(data, n) for data, n in sizes])))
        rolls = [list(COARSE.iter_unpack(r[-2])) for r in rows]
        for i in range(len(self._by_id[group].names)):
            column = page_id(group, i, page)
            self._connection.execute(coarse, (column, pack_page_column([r[i] for r in rolls])))
            together = Coarse(*(array("d") for _ in Coarse._fields))
            for data, n in sizes:
                for whole, part in zip(together, unpack_fine(data, n, i), strict=True):
                    whole.extend(part)
            self._connection.execute(fine, (column, pack_rolls(together)))
        self._connection.execute("DELETE FROM fines WHERE chunk BETWEEN ? AND ?", (last - PAGE + 1, last))

    def committed(self) -> None:
        """The transaction of the last ``write`` is in the history."""
        for number in self._dirty:
            group = self._by_id[number]
            group.stored = True
            if group.open is not None:
                group.open.committed()
        self._closed.clear()
        self._dirty.clear()
        self._commits += 1
        warm = [g for g in self._by_id.values() if g.open is not None] if len(self._by_id) > HOT else []
        for group in sorted(warm, key=attrgetter("touched"))[: max(0, len(warm) - HOT)]:
            group.open, group.cold = None, True
