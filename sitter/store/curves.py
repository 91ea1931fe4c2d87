"""Curves for drawing: a signal reduced to columns, each with min, max and mean of what falls into it.

The depth is the coarsest at which a column still holds at least four roll-ups, so a roll-up that straddles two columns (it is counted where
its middle lies) moves an edge by an eighth of a column at most. Where a stretch or the asked range cuts through a roll-up the next finer
depth is read, down to the points: what a restore left behind never leaks into the present line.
"""

import math
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from operator import mul
from typing import NamedTuple

from sitter.model import Curve
from sitter.store.chunks import BLOCK, CHUNK
from sitter.store.lines import Stretch
from sitter.store.rolls import Coarse, Entries, block_sizes, parallel
from sitter.store.rolls import blocks as roll_up
from sitter.store.series import Blocks, GroupRow, Points, blocks, chunk_points, entries, open_points

_PER_COLUMN = 4
"""Roll-ups that a column must hold for their depth to do."""


class Axis(NamedTuple):
    """Where a point lies: ``of(session, steps, times)`` gives x of each; ``by_step`` where x is the step itself."""

    of: Callable[[int, Iterable[int], Iterable[int]], list[float]]
    by_step: bool


class Spans(NamedTuple):
    """What falls into columns: parallel lists of roll-ups and single points. ``weight``: how many finite values."""

    x: list[float]
    low: list[float]
    high: list[float]
    mean: list[float]
    weight: list[int]
    lost: list[float]


class Wanted(NamedTuple):
    """Which points: of these branches' steps (None: of all), with x within [lo, hi] (None: no bound)."""

    stretches: dict[int, Stretch] | None
    lo: float | None
    hi: float | None

    def steps(self, branch: int) -> tuple[float, float] | None:
        """Steps wanted of a branch: (exclusive, inclusive); None: none."""
        if self.stretches is None:
            return -math.inf, math.inf
        stretch = self.stretches.get(branch)
        if stretch is None:
            return None
        return stretch.after, math.inf if stretch.to is None else stretch.to


NONE, PART, WHOLE = 0, 1, 2


def _overlap(wanted: Wanted, branch: int, step_lo: int, step_hi: int, x_lo: float, x_hi: float) -> int:
    steps = wanted.steps(branch)
    if steps is None or step_hi <= steps[0] or step_lo > steps[1]:
        return NONE
    if (wanted.lo is not None and x_hi < wanted.lo) or (wanted.hi is not None and x_lo > wanted.hi):
        return NONE
    inside = step_lo > steps[0] and step_hi <= steps[1]
    inside = inside and (wanted.lo is None or x_lo >= wanted.lo) and (wanted.hi is None or x_hi <= wanted.hi)
    return WHOLE if inside else PART


class Gathering:
    """Collects one signal's spans out of one or more groups."""

    def __init__(self, connection: sqlite3.Connection, axis: Axis, wanted: Wanted, columns: int) -> None:
        self._connection, self._axis, self._wanted, self._columns = connection, axis, wanted, columns
        self.spans = Spans([], [], [], [], [], [])
        self.extent: tuple[float, float] = (math.inf, -math.inf)

    def group(self, group: GroupRow, column: int) -> None:
        """What is wanted of one column of a group. sqlite3.Error and DamagedChunkError pass."""
        listed, coarse = entries(self._connection, group.id, column)
        newest = open_points(self._connection, group, column, times=not self._axis.by_step)
        x_lo = self._bounds(listed.session, listed.step_lo, listed.time_lo)
        x_hi = self._bounds(listed.session, listed.step_hi, listed.time_hi)
        state = self._state(listed, x_lo, x_hi)
        total = sum(listed.n) if state is None else sum(n for n, s in zip(listed.n, state, strict=True) if s)
        per_column = (total + (len(newest.seq) if newest else 0)) / self._columns
        depth = CHUNK if per_column >= _PER_COLUMN * CHUNK else BLOCK if per_column >= _PER_COLUMN * BLOCK else 1
        if depth == CHUNK:
            self._extend(x_lo, x_hi, coarse, listed.n, None if state is None else [no for no, s in enumerate(state) if s == WHOLE])
            finer = {} if state is None else {no: s for no, s in enumerate(state) if s == PART}
        else:
            finer = dict.fromkeys(listed.no, WHOLE) if state is None else {no: s for no, s in enumerate(state) if s}
        if depth > 1:
            self._blocks(group.id, column, listed, finer)
        else:
            for no in finer:
                self._points(self._chunk(group.id, no, column))
        if newest is not None:
            self._points(newest, depth)

    def _chunk(self, group: int, no: int, column: int) -> Points:
        return chunk_points(self._connection, group, no, column, times=not self._axis.by_step)

    def _bounds(self, sessions: Sequence[int], steps: Iterable[int], times: Iterable[int]) -> list[float]:
        if self._axis.by_step:
            return list(steps)
        if len(set(sessions)) == 1:
            return self._axis.of(sessions[0], steps, times)
        return [self._axis.of(s, (step,), (time,))[0] for s, step, time in zip(sessions, steps, times, strict=True)]

    def _state(self, listed: Entries, x_lo: list[float], x_hi: list[float]) -> list[int] | None:
        """Of each chunk NONE, PART or WHOLE; None where all are whole, as they mostly are."""
        if len(set(listed.branch)) == 1:
            ends = min(x_lo), max(x_hi)
            steps = (int(ends[0]), int(ends[1])) if self._axis.by_step else (min(listed.step_lo), max(listed.step_hi))
            if _overlap(self._wanted, listed.branch[0], *steps, *ends) == WHOLE:
                return None
        return [_overlap(self._wanted, *each) for each in zip(listed.branch, listed.step_lo, listed.step_hi, x_lo, x_hi, strict=True)]

    def _extend(self, x_lo: list[float], x_hi: list[float], rolls: Coarse, n: Sequence[int], which: list[int] | None = None) -> None:
        """Roll-ups into the spans; ``which`` of them (None: all)."""
        low, high, mean, _, lost = rolls
        if which is not None and len(which) < len(x_lo):
            x_lo, x_hi, n = [x_lo[i] for i in which], [x_hi[i] for i in which], [n[i] for i in which]
            low, high, mean, lost = (array("d", [a[i] for i in which]) for a in (low, high, mean, lost))
        if not x_lo:
            return
        spans = self.spans
        spans.x.extend(x_lo if x_lo is x_hi else [0.5 * (a + b) for a, b in zip(x_lo, x_hi)])  # noqa: B905 — twice as fast
        spans.low.extend(low)
        spans.high.extend(high)
        spans.mean.extend(mean)
        spans.lost.extend(lost)
        spans.weight.extend([int(k - gone) for k, gone in zip(n, lost, strict=True)] if any(lost) else n)
        self.extent = min(self.extent[0], min(x_lo)), max(self.extent[1], max(x_hi))

    def _blocks(self, group: int, column: int, listed: Entries, wanted: dict[int, int]) -> None:
        """Chunks at the depth of 64, ``wanted`` says which are whole; blocks that are cut, by their points."""
        if not wanted:
            return
        found = blocks(self._connection, group, column, listed, set(wanted), by_step=self._axis.by_step)
        x_lo, x_hi = self._block_bounds(found, listed, found.lo), self._block_bounds(found, listed, found.hi)
        whole: list[int] = []
        for no, start, end in found.chunks:
            known = wanted.get(no, NONE)
            if known == WHOLE:
                whole += range(start, end)
            elif known == PART:
                points: Points | None = None
                for i in range(start, end):
                    # Asked for times, blocks know no steps: where a chunk is cut in its steps, its blocks are judged by their points.
                    steps = (found.lo[i], found.hi[i]) if self._axis.by_step else (listed.step_lo[no], listed.step_hi[no])
                    known = _overlap(self._wanted, listed.branch[no], *steps, x_lo[i], x_hi[i])
                    if known == WHOLE:
                        whole.append(i)
                    elif known == PART:
                        p = points = points or self._chunk(group, no, column)
                        of = slice((i - start) * BLOCK, (i - start + 1) * BLOCK)
                        self._points(Points(p.session, p.branch, p.seq[of], p.step[of], p.time[of], p.values[of]))
        self._extend(x_lo, x_hi, found.rolls, found.n, whole)

    def _block_bounds(self, found: Blocks, listed: Entries, bounds: list[int]) -> list[float]:
        if self._axis.by_step:
            return list(bounds)
        out: list[float] = []
        for no, start, end in found.chunks:
            out += self._axis.of(listed.session[no], (), bounds[start:end])
        return out

    def _points(self, points: Points, depth: int = 1) -> None:
        """Single points; where columns are wide, rolled up on the way."""
        wanted = self._wanted
        steps = wanted.steps(points.branch)
        if steps is None:
            return
        x = self._axis.of(points.session, points.step, points.time)
        values: list[float] = points.values.tolist()
        lo = -math.inf if wanted.lo is None else wanted.lo
        hi = math.inf if wanted.hi is None else wanted.hi
        ends = min(x), max(x)
        first, last = ends if self._axis.by_step else (min(points.step), max(points.step))
        if first <= steps[0] or last > steps[1] or ends[0] < lo or ends[1] > hi:
            kept = [i for i, s in enumerate(points.step) if steps[0] < s <= steps[1] and lo <= x[i] <= hi]
            x, values = [x[i] for i in kept], [values[i] for i in kept]
        if not x:
            return
        if depth > 1:
            cuts = range(0, len(x), BLOCK)
            rolled = parallel(roll_up(values))
            self._extend([min(x[i : i + BLOCK]) for i in cuts], [max(x[i : i + BLOCK]) for i in cuts], rolled, block_sizes(len(x)))
        else:
            column = array("d", values)
            lost = array("d", [0.0 if v - v == 0.0 else 1.0 for v in values])
            self._extend(x, x, Coarse(column, column, column, column, lost), [1] * len(x))


def bucket(signal: str, spans: Spans, lo: float, hi: float, columns: int, *, abandoned: bool = False) -> Curve:
    """``columns`` equal columns over [lo, hi]; x is a column's middle. O(spans + columns)."""
    x = sorted(spans.x)
    if x != spans.x:  # several groups, or a step counter of the user's own
        order = sorted(range(len(x)), key=spans.x.__getitem__)
        spans = Spans(*([column[i] for i in order] for column in spans))  # type: ignore[arg-type]
    width = (hi - lo) / columns
    middles = [lo + (i + 0.5) * width for i in range(columns)]
    ends = [bisect_left(x, lo + i * width) for i in range(1, columns)] + [len(x)]
    nan = math.nan
    lows, highs, means, lost = [nan] * columns, [nan] * columns, [nan] * columns, []
    clean = not any(spans.lost)
    _, all_low, all_high, all_mean, all_weight, _ = spans
    start = 0
    for i, end in enumerate(ends):
        if start == end:
            continue
        of = slice(start, end)
        start = end
        low, high, mean, weight = all_low[of], all_high[of], all_mean[of], all_weight[of]
        if not clean and any(spans.lost[of]):
            lost.append(middles[i])
            kept = [k for k, w in enumerate(weight) if w]
            if not kept:
                continue
            low, high, mean, weight = [low[k] for k in kept], [high[k] for k in kept], [mean[k] for k in kept], [weight[k] for k in kept]
        lows[i], highs[i] = min(low), max(high)
        total = sum(weight)
        middle = sum(map(mul, mean, weight)) / total
        if middle - middle != 0.0:  # the sum of such values has no float; their mean has
            middle = max(lows[i], min(highs[i], sum(m * (w / total) for m, w in zip(mean, weight, strict=True))))
        means[i] = middle
    return Curve(signal=signal, x=middles, low=lows, high=highs, mean=means, lost=lost, abandoned=abandoned)
