"""Time in the history: monotonic times of sessions as wall times, and which step the run was at at a given time."""

import math
import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from sitter.store.lines import Stretch
from sitter.store.series import GroupRow, Points, chunk_points, entries, groups, open_points
from sitter_wire.events import SessionStart

_start = msgspec.msgpack.Decoder(SessionStart)


class Clocks:
    """Sessions' wall/monotonic clock pairs. Session 0 is the machine's own figures, whose times are wall times already."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT id, session, wall_ns, mono_ns, about FROM sessions").fetchall()
        self.names = {number: name for number, name, *_ in rows}
        self._offset: dict[int, int] = {number: wall - mono for number, _, wall, mono, _ in rows}
        self.order = _order([(number, wall, about) for number, _, wall, _, about in rows])
        """By session: sorts as they began."""
        self.start_ns = min((wall for _, _, wall, *_ in rows), default=0)
        """Wall clock at the begin of the first session."""

    def offset_ns(self, session: int) -> int:
        """What to add to the session's monotonic nanoseconds."""
        return self._offset.get(session, 0)

    def wall(self, session: int, time_us: int) -> float:
        """Unix seconds."""
        return (time_us * 1000 + self._offset.get(session, 0)) / 1e9

    def hours(self, session: int, times_us: Iterable[int]) -> list[float]:
        """Hours since the run began."""
        shift = self._offset.get(session, 0) - self.start_ns
        return [(t * 1000 + shift) / 3.6e12 for t in times_us]


def _order(sessions: Sequence[tuple[int, int, bytes | None]]) -> dict[int, tuple[int, int]]:
    """By the branch that each began, for a run never gives a number twice, and the wall clock may have been turned back in between; by
    that clock where the first record of one is not known. Only of the one that came last it may be on its way."""
    told = {number: (_start.decode(about).branch if about else None, wall) for number, wall, about in sessions}
    last = max(told, default=0)
    by_branch = all(branch is not None or number == last for number, (branch, _) in told.items())
    keys = {n: ((math.inf if branch is None else branch) if by_branch else 0, wall, n) for n, (branch, wall) in told.items()}
    return {number: (rank, number) for rank, number in enumerate(sorted(keys, key=keys.__getitem__))}


def busiest(connection: sqlite3.Connection, known: Sequence[GroupRow]) -> GroupRow | None:
    """The group of the most points: by it the run's steps are told."""
    best: tuple[int, int, int] | None = None
    for group in known:
        if group.host:
            continue
        bounds = (group.id << 32, (group.id + 1 << 32) - 1)
        (last,) = connection.execute("SELECT max(id) FROM chunks WHERE id BETWEEN ? AND ?", bounds).fetchone()
        (more,) = connection.execute("SELECT coalesce(sum(n), 0) FROM pieces WHERE chunk BETWEEN ? AND ?", bounds).fetchone()
        size = (0 if last is None else (last & 0xFFFFFFFF) + 1, more, -group.id)
        if best is None or size > best:
            best = size
    return next(g for g in known if g.id == -best[2]) if best else None


class StepClock:
    """Step of the given line of branches by time. Chunks give its bounds; ``step_at`` reads the one chunk that it falls into."""

    def __init__(self, connection: sqlite3.Connection, line: Sequence[Stretch]) -> None:
        """sqlite3.Error and DamagedChunkError pass."""
        self._connection, self._clocks = connection, Clocks(connection)
        self._group = busiest(connection, groups(connection))
        self._kept = {s.branch: s for s in line}
        self._spans: list[tuple[float, float, int, int, int]] = []  # wall from, to, step from, to, chunk (−1: the open one)
        self._open: Points | None = None
        if self._group is None:
            return
        listed, _ = entries(connection, self._group.id, 0)
        for no, session, branch, step_lo, step_hi, time_lo, time_hi in zip(
            listed.no, listed.session, listed.branch, listed.step_lo, listed.step_hi, listed.time_lo, listed.time_hi, strict=True
        ):
            stretch = self._kept.get(branch)
            if stretch is None or step_hi <= stretch.after or (stretch.to is not None and step_lo > stretch.to):
                continue
            if step_lo > stretch.after and (stretch.to is None or step_hi <= stretch.to):
                self._spans.append((self._clocks.wall(session, time_lo), self._clocks.wall(session, time_hi), step_lo, step_hi, no))
            else:
                self._add(chunk_points(connection, self._group.id, no, 0), no)
        self._open = open_points(connection, self._group, 0)
        if self._open is not None:
            self._add(self._open, -1)
        self._spans.sort()

    def _on_line(self, points: Points) -> list[tuple[float, int]]:
        stretch = self._kept.get(points.branch)
        if stretch is None:
            return []
        return [
            (self._clocks.wall(points.session, t), s)
            for s, t in zip(points.step, points.time, strict=True)
            if s > stretch.after and (stretch.to is None or s <= stretch.to)
        ]

    def _add(self, points: Points, no: int) -> None:
        pairs = self._on_line(points)
        if pairs:
            self._spans.append((pairs[0][0], pairs[-1][0], min(s for _, s in pairs), max(s for _, s in pairs), no))

    @property
    def last(self) -> tuple[float, int] | None:
        """(wall, step) of the newest point; None where there is none."""
        return (self._spans[-1][1], max(s[3] for s in self._spans)) if self._spans else None

    @property
    def first(self) -> tuple[float, int] | None:
        """(wall, step) of the oldest point."""
        return (self._spans[0][0], self._spans[0][2]) if self._spans else None

    def step_at(self, wall: float) -> int | None:
        """The last step at or before ``wall``; None before the first."""
        i = bisect_right(self._spans, (wall, float("inf"), 0, 0, 0)) - 1
        if i < 0:
            return None
        _, end, _, step_hi, no = self._spans[i]
        if wall >= end:
            return step_hi
        assert self._group is not None
        points = self._open if no < 0 else chunk_points(self._connection, self._group.id, no, 0)
        pairs = self._on_line(points) if points else []
        at = bisect_right([w for w, _ in pairs], wall)
        return pairs[at - 1][1] if at else None

    def roughly(self, walls: Iterable[float]) -> list[float]:
        """Steps by straight lines between the chunks' ends: for drawing the machine's figures over steps."""
        xs = [x for s in self._spans for x in s[:2]]
        ys = [float(y) for s in self._spans for y in s[2:4]]
        out = []
        for wall in walls:
            i = bisect_left(xs, wall)
            if not xs:
                out.append(0.0)
            elif i == 0:
                out.append(ys[0])
            elif i == len(xs):
                out.append(ys[-1])
            else:
                x0, x1 = xs[i - 1], xs[i]
                share = (wall - x0) / (x1 - x0) if x1 > x0 else 1.0
                out.append(ys[i - 1] + share * (ys[i] - ys[i - 1]))
        return out
