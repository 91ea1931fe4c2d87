"""The daily look, and what happened since somebody last looked: steps, loss, goal, slope, rate, idle GPU."""

import datetime
import math
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from sitter.model import DayRow, Since
from sitter.store.drawing import Scene
from sitter.store.lines import Stretch
from sitter.store.series import chunk_points, entries, groups, open_points
from sitter.store.when import StepClock
from sitter_wire.events import SessionStart

IDLE_BELOW = 5.0
"""Percent of utilisation in a sample of one second below which a GPU counts as idle; what a desktop or a monitor takes lies under it."""

OF_A_DAY = 200
"""Roll-ups that a day's slope is fitted to, about."""

LATELY = 50
"""Values whose mean stands for "the loss then" and "the loss now": one alone is noise."""

_start = msgspec.msgpack.Decoder(SessionStart)
_GPU = re.compile(r"gpu\d+\.util")


class Values(Protocol):
    """What is needed of the reader."""

    def values_until(self, signal: str, step: int | None, n: int) -> list[float]:
        """The signal's last ``n`` values at or before a step of the present line."""
        ...


class Names(NamedTuple):
    """Which signals stand for loss and goal."""

    loss: str
    goal: str | None


def names(connection: sqlite3.Connection) -> Names:
    """From what the newest session said; without that, ``val_loss`` is the goal where there is one."""
    known = {name for group in groups(connection) for name in group.names}
    row = connection.execute(
        "SELECT about FROM sessions WHERE about IS NOT NULL ORDER BY id DESC LIMIT 1"
    ).fetchone()
    goal = _start.decode(row[0]).goal if row else None
    loss = "loss" if "loss" in known or "train_loss" not in known else "train_loss"
    return Names(loss, goal or ("val_loss" if "val_loss" in known else None))


def _mean(values: Iterable[float]) -> float | None:
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else None


def slope(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Least squares; None with fewer than 3 points or all at one x."""
    n = len(xs)
    if n < 3:
        return None
    mx, my = sum(xs) / n, sum(ys) / n
    spread = sum((x - mx) ** 2 for x in xs)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / spread if spread else None


def idle(connection: sqlite3.Connection, begin: float, end: float) -> float | None:
    """Share of the samples of all GPUs between two wall times in which one did nothing; None where none was sampled."""
    lo, hi = int(begin * 1e6), int(end * 1e6)
    quiet = total = 0
    for group in groups(connection):
        for column, name in enumerate(group.names):
            if not (group.host and _GPU.fullmatch(name)):
                continue
            listed, coarse = entries(connection, group.id, column)
            samples: list[float] = []
            for i, no in enumerate(listed.no):
                if listed.time_hi[i] < lo or listed.time_lo[i] >= hi:
                    continue
                whole = lo <= listed.time_lo[i] and listed.time_hi[i] < hi and not coarse.lost[i]
                if whole and (coarse.low[i] >= IDLE_BELOW or coarse.high[i] < IDLE_BELOW):
                    total += listed.n[i]
                    quiet += listed.n[i] if coarse.high[i] < IDLE_BELOW else 0
                else:
                    points = chunk_points(connection, group.id, no, column)
                    samples += [v for t, v in zip(points.time, points.values, strict=True) if lo <= t < hi]
            newest = open_points(connection, group, column)
            if newest is not None:
                samples += [v for t, v in zip(newest.time, newest.values, strict=True) if lo <= t < hi]
            total += len(samples)
            quiet += sum(v < IDLE_BELOW for v in samples)
    return quiet / total if total else None


MOST_DAYS = 1000
"""The newest; a time that was damaged in a file may lie in any century, and each day costs a look."""


def days(connection: sqlite3.Connection, present: Sequence[Stretch], values: Values, utc_offset: int) -> list[DayRow]:
    """A row for each day in which the run stepped.

    ``loss``: mean over the last tenth of the day's steps; ``slope_per_k``: least squares through the day's roll-ups; ``goal`` and ``lr``:
    the last of the day; ``rate``: steps over the time between the day's first and last step; ``actions``: commands that were applied.
    """
    clock = StepClock(connection, present)
    first, last = clock.first, clock.last
    if first is None or last is None:
        return []
    called = names(connection)
    scene = Scene(connection, "step", present)
    zone = datetime.timezone(datetime.timedelta(seconds=utc_offset))
    out: list[DayRow] = []
    begin = math.floor((first[0] + utc_offset) / 86400) * 86400.0 - utc_offset
    if (last[0] - begin) / 86400 > MOST_DAYS:  # a damaged clock, not a training
        begin += math.floor((last[0] - begin) / 86400 - MOST_DAYS) * 86400.0
    while begin <= last[0]:
        end = begin + 86400.0
        # The step before the day's first: the last of the day before, and one less than the very first.
        before = first[1] - 1 if begin <= first[0] else clock.step_at(math.nextafter(begin, 0.0))
        until = clock.step_at(math.nextafter(end, 0.0))
        if before is not None and until is not None and until > before:
            found = scene.gather(called.loss, present, before + 1, until, OF_A_DAY)
            pairs = [(x, y) for x, y in zip(found[0].x, found[0].mean, strict=True) if math.isfinite(y)] if found else []
            pairs = sorted(pairs)
            fitted = slope([x for x, _ in pairs], [y for _, y in pairs])
            late = before + 0.9 * (until - before)
            goal = values.values_until(called.goal, until, 1) if called.goal else []
            lr = values.values_until("lr", until, 1)
            (actions,) = connection.execute(
                "SELECT count(*) FROM logbook WHERE kind = 'outcome' AND status = 'applied' AND time >= ? AND time < ?", (begin, end)
            ).fetchone()
            took = min(end, last[0]) - max(begin, first[0])
            out.append(DayRow(
                day=datetime.datetime.fromtimestamp(begin, zone).date().isoformat(), steps=until - before,
                loss=_mean([y for x, y in pairs if x >= late] or [y for _, y in pairs[-1:]]), goal=goal[-1] if goal else None,
                slope_per_k=None if fitted is None else 1000 * fitted, rate=(until - before) / took if took > 0 else None,
                lr=lr[-1] if lr else None, actions=actions, gpu_idle=idle(connection, begin, end),
            ))  # fmt: skip
        begin = end
    return out


def since(
    connection: sqlite3.Connection, present: Sequence[Stretch], values: Values, wall: float, now: float | None = None
) -> Since:
    """From a wall time to now (None: the present time). Values are (then, now); loss as the mean of the last 50."""
    now = time.time() if now is None else now
    clock = StepClock(connection, present)
    called = names(connection)
    first, last = clock.first, clock.last
    then = clock.step_at(wall)
    steps = 0
    if first is not None and last is not None:
        steps = last[1] - (then if then is not None else first[1] - 1)

    def lately(signal: str, step: int | None) -> float | None:
        return _mean(values.values_until(signal, step, LATELY))

    def newest(signal: str, step: int | None) -> float | None:
        found = values.values_until(signal, step, 1)
        return found[-1] if found else None

    (begun,) = connection.execute("SELECT count(*) FROM incidents WHERE began >= ?", (wall,)).fetchone()
    healed, lost = connection.execute(
        "SELECT count(*), coalesce(sum(steps_lost), 0) FROM incidents WHERE ended >= ? AND verdict LIKE 'recovered%'", (wall,)
    ).fetchone()
    goal = called.goal
    return Since(
        seconds=max(0.0, now - wall), steps=max(0, steps),
        loss=(lately(called.loss, then) if then is not None else None, lately(called.loss, None)),
        goal=(newest(goal, then) if goal and then is not None else None, newest(goal, None) if goal else None),
        goal_name=goal, incidents=begun, healed=healed, steps_lost=lost, gpu_idle=idle(connection, wall, now), ends_at=None,
    )  # fmt: skip
