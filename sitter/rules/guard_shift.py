"""A loss that has moved to a higher level, so slowly that no single point stood out."""

import math
from collections import deque
from typing import NamedTuple

from sitter.rules.memory import Memory
from sitter.rules.robust import WINDOW, Robust, median

NEW_POINTS = 20
"""Points whose median is compared with the median of the ``WINDOW`` before them. On 291 published healthy logs that ratio stayed below
1.32, in all but one below 1.25; the gradient of one step, multiplied by 10,000 under AdamW, moved it to 1.44 while no point rose above
4 sigma (tests/benchmarks/guard_offline.py)."""

MEDIAN_SIGMA = 1.2533 / NEW_POINTS**0.5
"""Standard deviation of a median of so many normal values, in standard deviations of one."""

EVERY = 5
"""Points between two looks."""


class Shift(NamedTuple):
    """The new level ``now`` is ``factor`` × the old one, ``z`` standard deviations of a median away; it is no older than ``since``."""

    now: float
    factor: float
    z: float
    since: int


class Level(Memory):
    """The last points, and what was usual before them. Log scale."""

    __slots__ = ("_new", "_past", "_points", "_steps")

    def __init__(self) -> None:
        self._new: deque[float] = deque()
        self._past = Robust()
        self._steps: deque[int] = deque(maxlen=2 * NEW_POINTS)
        self._points = 0

    def push(self, step: int, value: float, *, frozen: bool) -> bool:
        """One point; whether it is time to look, and there is enough to look at. ``frozen``: the last points go on, what was usual
        before them stays."""
        new = self._new
        new.append(value)
        self._points += 1
        if not frozen:
            self._steps.append(step)
        if len(new) > NEW_POINTS:
            old = new.popleft()
            if not frozen:
                self._past.push(old)
        return self._points % EVERY == 0 and len(self._past) >= WINDOW and len(new) >= NEW_POINTS

    def shift(self, factor: float = 0.0) -> Shift | None:
        """How the last points stand to those before; None where that is not more than ``factor`` × as high."""
        now = median(sorted(self._new))
        if math.exp(min(700.0, now - self._past.low)) <= factor:
            return None  # as nearly always, and without sorting what is past
        rise = now - self._past.centre
        times = math.exp(min(700.0, rise))
        if times <= factor:
            return None
        blur = 1.0 if self._past.is_smoothed else MEDIAN_SIGMA  # twenty points of a running mean say no more than one
        spread = self._past.sigma * blur
        return Shift(math.exp(min(700.0, now)), times, rise / spread, self._steps[0])

    def clear(self) -> None:
        """Begin anew."""
        self._new.clear()
        self._past.clear()
        self._steps.clear()
