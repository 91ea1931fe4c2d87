"""Reading the history: on a connection that cannot write, page by page, no transaction open between pages."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from sitter.errors import StoreError
from sitter.model import CheckpointInfo, Curve, Curves, DayRow, GpuNow, Incident, LogEntry, SignalNow, Since
from sitter.store import days, drawing
from sitter.store.gpus import in_words
from sitter.store.lines import BEGINNING, Stretch, abandoned, line
from sitter.store.schema import open_reader, store_error, translated
from sitter.store.series import GroupRow, Points, Rows, backwards, chunk_points, entries, groups, open_points, open_rows
from sitter.store.series import chunk_rows as read_chunk
from sitter.store.when import Clocks
from sitter_wire.events import AnyEvent, SessionStart
from sitter_wire.queries import GetCurves
from sitter_wire.records import Happening

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SessionRow(NamedTuple):
    """A session. ``start`` is what its process said of itself; None where it has not been read yet."""

    session: str
    wall_ns: int
    mono_ns: int
    pid: int | None
    host: str | None
    last_seq: int
    start: SessionStart | None


class BranchRow(NamedTuple):
    """A branch; ``started`` unix seconds."""

    branch: int
    session: str
    parent_branch: int | None
    parent_step: int | None
    started: float | None


class StoredPoint(NamedTuple):
    """A point as it was logged; ``time`` in monotonic nanoseconds of its session (kept to the microsecond)."""

    session: str
    seq: int
    step: int
    branch: int
    time: int
    values: dict[str, float]


class StoredEvent(NamedTuple):
    """An event; ``id`` grows in the order they were stored, ``wall`` in unix seconds."""

    id: int
    session: str
    wall: float
    happening: Happening


_event: msgspec.msgpack.Decoder[AnyEvent] = msgspec.msgpack.Decoder(AnyEvent)
_start = msgspec.msgpack.Decoder(SessionStart)

PAGE = 1000
"""Rows read at a time."""


class Reader:
    """Answers from history.db. Safe to use from several threads, one at a time. Every method raises StoreError only.

    The file is opened with the first question, so that a reader can be made before there is a history.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Gives the file back; the next question opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent look: a read transaction as short as the question."""
        with self._lock, translated(self._path):
            if self._connection is None:
                self._connection = open_reader(self._path)
            connection = self._connection
            nested = connection.in_transaction
            if not nested:
                connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if not nested and connection.in_transaction:
                    connection.execute("ROLLBACK")  # nothing was written; this cannot fail as a COMMIT could

    # -- tables -----------------------------------------------------------------------------------------------------------

    def sequences(self) -> dict[str, int]:
        """session → last sequence number that is in the history: where its records go on."""
        with self._reading() as c:
            return dict(c.execute("SELECT session, last_seq FROM sessions").fetchall())

    def sessions(self) -> list[SessionRow]:
        """Every session, oldest first."""
        with self._reading() as c:
            order = Clocks(c).order
            rows = c.execute("SELECT id, session, wall_ns, mono_ns, pid, host, last_seq, about FROM sessions").fetchall()
            return [
                SessionRow(session, wall_ns, mono_ns, pid, host, last_seq, _start.decode(about) if about else None)
                for _, session, wall_ns, mono_ns, pid, host, last_seq, about in sorted(rows, key=lambda row: order[row[0]])
            ]

    def branches(self) -> list[BranchRow]:
        """Every branch, by number."""
        with self._reading() as c:
            return [BranchRow(*r) for r in c.execute(f"SELECT {', '.join(BranchRow._fields)} FROM branches ORDER BY branch").fetchall()]

    def _parents(self) -> dict[int, tuple[int | None, int | None]]:
        return {b.branch: (b.parent_branch, b.parent_step) for b in self.branches()}

    def line(self, branch: int | None = None) -> list[Stretch]:
        """The steps that led to ``branch`` (None: the present one): (branch, after this step, up to this step or None), oldest first."""
        return line(self._parents(), branch)

    def abandoned(self) -> list[Stretch]:
        """What restores left behind, in the same form."""
        parents = self._parents()
        return abandoned(parents, line(parents))

    def events(self, kinds: Iterable[str] | None = None, after: int = 0) -> Iterator[StoredEvent]:
        """Events with ``id`` > after in the order they were stored; ``kinds`` are their tags (``restored``, ``outcome``…), None = all."""
        wanted = None if kinds is None else list(kinds)
        where = "" if wanted is None else f" AND kind IN ({', '.join('?' * len(wanted))})"
        while True:
            with self._reading() as c:
                clocks = Clocks(c)
                rows = c.execute(
                    f"SELECT id, session, seq, step, branch, time, data FROM events WHERE id > ?{where} ORDER BY id LIMIT {PAGE}",
                    (after, *(wanted or ())),
                ).fetchall()
            for number, session, seq, step, branch, time, data in rows:
                try:
                    event = _event.decode(data)
                except msgspec.ValidationError:
                    continue  # from an agent that knows more kinds than we do
                except (msgspec.DecodeError, UnicodeDecodeError) as e:
                    raise store_error(ValueError(f"malformed: {e}"), self._path) from e
                wall = clocks.wall(session, time // 1000)
                yield StoredEvent(number, clocks.names.get(session, ""), wall, Happening(seq, step, branch, time, event))
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def event_before(self, session: str, seq: int) -> int:
        """``id`` of the last event of a session below a sequence number, for ``events(after=…)``; 0 where there is none."""
        with self._reading() as c:
            row = c.execute(
                "SELECT id FROM events WHERE session = (SELECT id FROM sessions WHERE session = ?) AND seq < ? ORDER BY seq DESC LIMIT 1",
                (session, seq),
            ).fetchone()
            return int(row[0]) if row else 0

    def gpus(self) -> list[tuple[int, list[GpuNow]]]:
        """The machine's GPUs in words, each with the wall time (microseconds) from which that held, oldest first."""
        with self._reading() as c:
            return in_words(c)

    def logbook(self, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        """Lines with ``id`` > after, oldest first; the newest ``limit`` of them, at most 100,000."""
        with self._reading() as c:
            fields = ", ".join(LogEntry.__struct_fields__)
            most = max(0, min(limit, 100_000))
            rows = c.execute(f"SELECT {fields} FROM logbook WHERE id > ? ORDER BY id DESC LIMIT ?", (after, most)).fetchall()
            return [_made(LogEntry, row) for row in reversed(rows)]

    def checkpoints(self) -> list[CheckpointInfo]:
        """Every checkpoint on disk, oldest first."""
        with self._reading() as c:
            fields = ", ".join(CheckpointInfo.__struct_fields__)
            return [_made(CheckpointInfo, row) for row in c.execute(f"SELECT {fields} FROM checkpoints ORDER BY branch, step").fetchall()]

    def incidents(self) -> list[Incident]:
        """Every incident, oldest first."""
        with self._reading() as c:
            fields = ", ".join(Incident.__struct_fields__)
            return [_made(Incident, row) for row in c.execute(f"SELECT {fields} FROM incidents ORDER BY id").fetchall()]

    def get(self, key: str, default: Any = None) -> Any:
        """What ``Writer.set`` kept."""
        with self._reading() as c:
            row = c.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
            return default if row is None else msgspec.msgpack.decode(row[0])

    # -- values -----------------------------------------------------------------------------------------------------------

    def groups(self) -> list[GroupRow]:
        """Names that are logged together."""
        with self._reading() as c:
            return groups(c)

    def clocks(self) -> Clocks:
        """Sessions' times as wall times, and the order of sessions."""
        with self._reading() as c:
            return Clocks(c)

    def signals(self) -> dict[str, SignalNow]:
        """Every signal with its last value, its step and wall time; the machine's own figures have step 0."""
        newest: dict[str, tuple[tuple[float, int], SignalNow]] = {}
        with self._reading() as c:
            clocks = Clocks(c)
            for group in groups(c):
                rows = next(backwards(c, group), None)
                if rows is None:
                    continue
                wall = clocks.wall(rows.session, rows.time[-1])
                for name, values in zip(group.names, rows.columns, strict=True):
                    if name not in newest or (wall, rows.seq[-1]) > newest[name][0]:
                        newest[name] = (wall, rows.seq[-1]), SignalNow(last=values[-1], step=rows.step[-1], time=wall)
        return {name: now for name, (_, now) in newest.items()}

    def tail(self, n: int) -> list[StoredPoint]:
        """The newest ``n`` points in the order they were logged: (session, seq, step, branch, time, {name: value})."""
        return self.last(n)

    def last(self, n: int, signals: Iterable[str] | None = None) -> list[StoredPoint]:
        """The newest ``n`` points that have one of ``signals`` (None: any)."""
        wanted = None if signals is None else set(signals)
        found: list[tuple[tuple[int, int, int], StoredPoint]] = []
        with self._reading() as c:
            clocks = Clocks(c)
            for group in groups(c):
                if group.host or (wanted is not None and wanted.isdisjoint(group.names)):
                    continue
                have = 0
                for rows in backwards(c, group):
                    order, name = clocks.order[rows.session], clocks.names[rows.session]
                    values = zip(*rows.columns, strict=True)
                    found += [
                        ((*order, seq), StoredPoint(name, seq, step, rows.branch, time * 1000, dict(zip(group.names, v, strict=True))))
                        for seq, step, time, v in zip(rows.seq, rows.step, rows.time, values, strict=True)
                    ]
                    have += len(rows.seq)
                    if have >= n:
                        break
        return [point for _, point in reversed(nlargest(n, found, key=lambda f: f[0]))]

    def value_at(self, signal: str, step: int) -> float | None:
        """The signal as of a step of the present line: its last value at or before it. None where there is none."""
        values = self.values_until(signal, step, 1)
        return values[-1] if values else None

    def values_until(self, signal: str, step: int | None, n: int) -> list[float]:
        """Its last ``n`` values at or before a step of the present line (None: the newest), oldest first."""
        present = {s.branch: s for s in self.line()}
        found: list[tuple[int, int, float]] = []
        with self._reading() as c:
            for group in groups(c):
                if signal not in group.names or group.host:
                    continue
                column = group.names.index(signal)
                newest = open_points(c, group, column, times=False)
                if newest is not None:
                    found += _of_line(newest, present, step)
                listed, _ = entries(c, group.id, column)
                at = sorted(zip(listed.step_hi, listed.step_lo, listed.no, listed.branch, strict=True), reverse=True)
                for step_hi, step_lo, no, branch in at:
                    enough = nlargest(n, found)
                    if len(enough) == n and enough[-1][0] >= step_hi:
                        break
                    if branch in present and (step is None or step_lo <= step):
                        found += _of_line(chunk_points(c, group.id, no, column, times=False), present, step)
        return [value for _, _, value in reversed(nlargest(n, found))]

    def rows(self, group: GroupRow) -> Iterator[Rows]:
        """A group's chunks, oldest first, one at a time, with all columns: for exports."""
        columns = list(range(len(group.names)))
        with self._reading() as c:
            numbers = entries(c, group.id, 0)[0].no
            newest = open_rows(c, group, columns)
        for no in numbers:
            with self._reading() as c:
                chunk = read_chunk(c, group.id, no, columns)
            yield chunk
        if newest is not None:
            yield newest

    def points(
        self, signal: str, line: Sequence[tuple[int, int, int | None]] | None = None
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]":
        """(steps, times, values) of the signal on a line of branches (None: the present one), in the order logged; unix seconds."""
        import numpy as np

        stretches = {s[0]: Stretch(*s) for s in (self.line() if line is None else line)}
        parts: list[tuple[Any, Any, Any, Any]] = []
        with self._reading() as c:
            clocks = Clocks(c)
        for group in self.groups():
            if signal not in group.names:
                continue
            column = group.names.index(signal)
            for rows in self.rows(group):
                stretch = Stretch(rows.branch, BEGINNING, None) if group.host else stretches.get(rows.branch)
                if stretch is None:
                    continue
                steps = np.array(rows.step, dtype=np.int64)
                kept = (steps > stretch.after) & (steps <= (np.iinfo(np.int64).max if stretch.to is None else stretch.to))
                walls = (np.array(rows.time, dtype=np.int64) * 1000 + clocks.offset_ns(rows.session)) / 1e9
                key = np.array(rows.time if group.host else rows.seq, dtype=np.int64)
                values = np.array(rows.columns[column])
                order = np.full(len(key), clocks.order.get(rows.session, (0, 0))[0], dtype=np.int64)
                parts.append((np.stack((order, key))[:, kept], steps[kept], walls[kept], values[kept]))
        if not parts:
            return np.empty(0, np.int64), np.empty(0), np.empty(0)
        keys, steps, walls, values = (np.concatenate([p[i] for p in parts], axis=-1) for i in range(4))
        in_order = np.lexsort((keys[1], keys[0]))
        return steps[in_order], walls[in_order], values[in_order]

    # -- for screens --------------------------------------------------------------------------------------------------------

    def curve(
        self, signal: str, *, line: Sequence[tuple[int, int, int | None]] | None = None, abandoned: bool = False,
        axis: Literal["step", "hours"] = "step", lo: float | None = None, hi: float | None = None, columns: int = 200,
    ) -> Curve:  # fmt: skip
        """A signal in columns over a line of branches (None: the present one). ``abandoned`` only marks the curve as such."""
        stretches = [Stretch(*s) for s in (self.line() if line is None else line)]
        with self._reading() as c:
            return drawing.curve(c, signal, stretches, axis, lo, hi, max(1, columns), abandoned=abandoned)

    def curves(self, query: GetCurves) -> Curves:
        """Several signals over the same columns, and what there is to mark. Signals that were never logged are left out."""
        parents = self._parents()
        present = line(parents)
        with self._reading() as c:
            return drawing.curves(c, query, present, abandoned(parents, present))

    def days(self, utc_offset: int = 0) -> list[DayRow]:
        """A row a day of the run, oldest first; ``utc_offset`` seconds say where a day begins."""
        present = self.line()
        with self._reading() as c:
            return days.days(c, present, self, utc_offset)

    def since(self, wall: float, now: float | None = None) -> Since:
        """What happened since a wall time, as far as the history tells; ``ends_at`` is not its to know."""
        present = self.line()
        with self._reading() as c:
            return days.since(c, present, self, wall, now)


def _of_line(points: Points, present: dict[int, Stretch], step: int | None) -> list[tuple[int, int, float]]:
    stretch = present.get(points.branch)
    if stretch is None:
        return []
    most = stretch.to if step is None or (stretch.to is not None and stretch.to < step) else step
    return [
        (s, seq, v)
        for s, seq, v in zip(points.step, points.seq, points.values, strict=True)
        if s > stretch.after and (most is None or s <= most)
    ]


def _made(kind: type[Any], row: Sequence[Any]) -> Any:
    try:
        return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind, strict=False)
    except msgspec.ValidationError as e:
        raise StoreError(f"a line of the history is not a {kind.__name__} as expected ({e}): upgrade sitter, or move the file aside") from e
