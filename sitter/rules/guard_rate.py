"""The guard's memory of the learning rate: was it somebody's bug? Asked only when there is a trip."""

import math
from collections import deque
from itertools import pairwise
from typing import NamedTuple

from sitter.rules.memory import Memory

RECENT = 40
"""Points in which a jump is looked for: older ones have been survived."""

SMOOTH_POINTS = 5
"""Points before a jump that must have gone smoothly, so that the first points of a warm-up, far apart in the log, are no jump."""


class Jump(NamedTuple):
    """The scheduled rate left its line at ``step``; before it stood at ``usual``, and now stands at ``factor`` × that."""

    step: int
    usual: float
    factor: float


class Rate(Memory):
    """The scheduled rate (without our own scale), point by point.

    A schedule is judged by its own past. Warm-up, decay and one-cycle move smoothly. Warm restarts and cyclic rates jump, but back to
    where they have been: what stands within 5 % of the highest rate that was used and survived is no bug. A rate that is too LOW is
    not judged either: it cannot have caused the trip, and a step decay looks just like it.
    """

    __slots__ = ("_highest", "_recent", "_seen")

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float]] = deque()
        self._highest = 0.0
        self._seen = 0

    def record(self, step: int, scheduled: float) -> None:
        """One more point; a second one of the same step replaces the first. Not finite or not positive: ignored."""
        if not 0.0 < scheduled < math.inf:
            return
        recent = self._recent
        if recent and recent[-1][0] >= step:
            recent[-1] = step, scheduled
            return
        recent.append((step, scheduled))
        self._seen += 1
        if len(recent) > RECENT:
            survived = recent.popleft()[1]
            if survived > self._highest:
                self._highest = survived

    @property
    def now(self) -> float | None:
        """The last scheduled rate."""
        return self._recent[-1][1] if self._recent else None

    @property
    def highest(self) -> float:
        """The highest scheduled rate so far; 0 where there was none."""
        return max([self._highest, *(value for _, value in self._recent)])

    def jump(self, factor: float) -> Jump | None:
        """A jump by more than ``factor`` from one point to the next that still stands, to where the rate has never been."""
        values = list(self._recent)
        if self._seen <= SMOOTH_POINTS:
            return None
        last = values[-1][1]
        highest = self._highest
        for i, (step, value) in enumerate(values):
            if i and value > factor * values[i - 1][1]:
                usual = values[i - 1][1]
                stands = min(v for _, v in values[i:]) > factor * usual
                if stands and last > 1.05 * highest and _smooth([v for _, v in values[max(0, i - SMOOTH_POINTS) : i]]):
                    return Jump(step=step, usual=usual, factor=last / usual)
            highest = max(highest, value)
        return None

    def was_raised(self, factor: float) -> bool:
        """The schedule has raised the rate by more than ``factor`` within the recent points, never beyond where it has been before: a
        warm restart, after which a higher loss is to be expected. What was beyond is no excuse, also when it is over."""
        if self._seen <= RECENT:
            return False
        lowest, top, raised = math.inf, 0.0, False
        for _, value in self._recent:
            raised = raised or value > factor * lowest
            lowest, top = min(lowest, value), max(top, value)
        return raised and top <= 1.05 * self._highest


def _smooth(values: list[float]) -> bool:
    """It did not rise by half from one to the next, and there are enough of them."""
    return len(values) >= SMOOTH_POINTS and all(b / a < 1.5 for a, b in pairwise(values))
