"""What a chart asks for: curves of several signals over the same columns, and markers."""

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from sitter.model import Curve, Curves, Marker
from sitter.store.curves import Axis, Gathering, Spans, Wanted, bucket
from sitter.store.lines import Stretch
from sitter.store.series import groups
from sitter.store.when import Clocks, StepClock
from sitter_wire.events import KnobChanged, Restored
from sitter_wire.queries import GetCurves

AxisName = Literal["step", "hours"]
LEFT_BEHIND = 50
"""Abandoned stretches drawn at most, the newest."""

MOST_MARKERS = 500
"""Of each kind, the newest."""

MOST_COLUMNS = 2000
"""More than any terminal has; a question from outside is bounded."""

_knob = msgspec.msgpack.Decoder(KnobChanged)
_restored = msgspec.msgpack.Decoder(Restored)


def _steps(session: int, steps: Iterable[int], times: Iterable[int]) -> list[float]:
    return list(map(float, steps))


class Scene:
    """One look at the history: axes are made once and used for every signal."""

    def __init__(self, connection: sqlite3.Connection, axis: AxisName, line: Sequence[Stretch]) -> None:
        self._connection, self._line = connection, line
        self._clocks: Clocks | None = None
        self._groups = groups(connection)
        self._step_clock: StepClock | None = None
        self.axis = Axis(_steps, True) if axis == "step" else Axis(lambda session, _, times: self.clocks.hours(session, times), False)

    @property
    def clocks(self) -> Clocks:
        """Sessions' clocks, read when first needed."""
        if self._clocks is None:
            self._clocks = Clocks(self._connection)
        return self._clocks

    def _host_axis(self) -> Axis:
        if not self.axis.by_step:
            return self.axis
        if self._step_clock is None:
            self._step_clock = StepClock(self._connection, self._line)
        clock = self._step_clock
        return Axis(lambda session, _, times: clock.roughly(self.clocks.wall(session, t) for t in times), False)

    def gather(
        self, signal: str, stretches: Sequence[Stretch], lo: float | None, hi: float | None, columns: int
    ) -> tuple[Spans, tuple[float, float]] | None:
        """What of the signal lies on the stretches, and from where to where; None where it was never logged."""
        found = [g for g in self._groups if signal in g.names]
        if not found:
            return None
        host = found[0].host
        wanted = Wanted(None if host else {s.branch: s for s in stretches}, lo, hi)
        gathering = Gathering(self._connection, self._host_axis() if host else self.axis, wanted, columns)
        for group in found:
            gathering.group(group, group.names.index(signal))
        return gathering.spans, gathering.extent

    def is_host(self, signal: str) -> bool:
        """Whether it is a figure of the machine, which belongs to no branch."""
        return any(g.host for g in self._groups if signal in g.names)


def curve(
    connection: sqlite3.Connection, signal: str, stretches: Sequence[Stretch], axis: AxisName, lo: float | None, hi: float | None,
    columns: int, *, abandoned: bool = False,
) -> Curve:  # fmt: skip
    """One signal. Where nothing is there, columns of NaN between ``lo`` and ``hi``."""
    found = Scene(connection, axis, stretches).gather(signal, stretches, lo, hi, columns)
    spans, extent = found or (Spans([], [], [], [], [], []), (math.inf, -math.inf))
    return bucket(signal, spans, *_bounds(lo, hi, [extent]), columns, abandoned=abandoned)


def _bounds(lo: float | None, hi: float | None, extents: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The range asked for, its open ends where the data end. (0, 1) where there is neither."""
    known = [e for e in extents if e[0] <= e[1]]
    low = lo if lo is not None else min((e[0] for e in known), default=0.0 if hi is None else min(0.0, hi))
    high = hi if hi is not None else max((e[1] for e in known), default=low + 1.0)
    return low, max(low, high)


def curves(connection: sqlite3.Connection, query: GetCurves, present: Sequence[Stretch], left: Sequence[Stretch]) -> Curves:
    """Answer to GetCurves. The range is that of the present line's signals; the machine's figures follow it."""
    columns = max(1, min(query.columns, MOST_COLUMNS))
    scene = Scene(connection, query.axis, present)
    gathered: list[tuple[str, Spans, bool]] = []
    extents: list[tuple[float, float]] = []
    of_host: list[tuple[float, float]] = []
    for signal in dict.fromkeys(query.signals):
        found = scene.gather(signal, present, query.lo, query.hi, columns)
        if found is not None:
            gathered.append((signal, found[0], False))
            (of_host if scene.is_host(signal) else extents).append(found[1])
            if query.abandoned and not scene.is_host(signal):
                for stretch in left[-LEFT_BEHIND:]:
                    behind = scene.gather(signal, [stretch], query.lo, query.hi, columns)
                    if behind is not None and behind[0].x:
                        gathered.append((signal, behind[0], True))
                        extents.append(behind[1])
    lo, hi = _bounds(query.lo, query.hi, extents or of_host)
    drawn = [bucket(signal, spans, lo, hi, columns, abandoned=behind) for signal, spans, behind in gathered]
    return Curves(curves=drawn, markers=markers(connection, scene, lo, hi), lo=lo, hi=hi)


def markers(connection: sqlite3.Connection, scene: Scene, lo: float, hi: float) -> list[Marker]:
    """Checkpoints, knobs, incidents, restores, restarts and the operator's notes within [lo, hi], in order."""
    by_step = scene.axis.by_step

    def at(step: int, wall: float | None) -> float:
        if by_step:
            return float(step)
        return math.nan if wall is None else (wall - scene.clocks.start_ns / 1e9) / 3600

    out: list[Marker] = []
    for step, wall, good in connection.execute("SELECT step, time, good FROM checkpoints ORDER BY step"):
        out.append(Marker(x=at(step, wall), kind="checkpoint", text=f"checkpoint {step}{'' if good else ', not yet good'}"))
    rows = connection.execute(
        "SELECT kind, session, step, time, data FROM events WHERE kind IN ('knob_changed', 'restored') ORDER BY id DESC LIMIT ?",
        (MOST_MARKERS,),
    )
    for kind, session, step, time, data in rows:
        wall = scene.clocks.wall(session, time // 1000)
        try:
            if kind == "restored":
                restored = _restored.decode(data)
                out.append(Marker(x=at(restored.step, wall), kind="restore", text=f"back from {restored.left} to {restored.step}"))
            else:
                knob = _knob.decode(data)
                out.append(Marker(x=at(step, wall), kind="knob", text=f"{knob.knob} {knob.old:g} → {knob.new:g}"))
        except msgspec.ValidationError:
            continue  # kept for a version that understands it; damage is another error
    out += [Marker(x=at(step, wall), kind="restart", text=text) for step, wall, text in _restarts(connection)]
    rows = connection.execute("SELECT onset, began, text FROM incidents ORDER BY id DESC LIMIT ?", (MOST_MARKERS,))
    out += [Marker(x=at(onset, began), kind="incident", text=text) for onset, began, text in rows]
    rows = connection.execute(
        "SELECT step, time, detail FROM logbook WHERE kind = 'note' AND status = 'operator' AND step IS NOT NULL ORDER BY id DESC LIMIT ?",
        (MOST_MARKERS,),
    )
    out += [Marker(x=at(step, wall), kind="note", text=text) for step, wall, text in rows]
    return sorted((m for m in out if lo <= m.x <= hi), key=lambda m: m.x)


def _restarts(connection: sqlite3.Connection) -> Iterator[tuple[int, float | None, str]]:
    """Of each branch that began with another process: from which step it went on, when, and in words."""
    before: str | None = None
    for session, step, wall in connection.execute("SELECT session, parent_step, started FROM branches ORDER BY branch").fetchall():
        if before is not None and session != before:
            yield step or 0, wall, "started again from the beginning" if step is None else f"started again from step {step:,}"
        before = session
