"""What is usual for a signal: median and spread of its last points, which a few bad ones cannot move."""

import math
from bisect import bisect_left, insort
from collections import deque

from sitter.rules.memory import Memory

WINDOW = 40
"""Points. Long enough for a median that one bad batch does not move, short enough to follow a falling loss."""

MAD_TO_SIGMA = 1.4826
"""MAD × this = standard deviation of a normal distribution."""

FLOORS = 32
"""How many windows' floors are remembered."""


def median(ordered: list[float]) -> float:
    """Of a sorted, non-empty list."""
    n = len(ordered)
    return ordered[n // 2] if n % 2 else 0.5 * (ordered[n // 2 - 1] + ordered[n // 2])


def middle_distance(ordered: list[float], centre: float) -> float:
    """Median of the distances from ``centre``, the median of a sorted, non-empty list: the MAD.

    In a sorted list the values nearest to anything lie side by side. Which half of them that is, is found by bisection, without sorting
    the distances.
    """
    n = len(ordered)
    half = n // 2
    low, high = 0, n - half  # the nearest ``half`` begin somewhere here
    while low < high:
        middle = (low + high) // 2
        if centre - ordered[middle] > ordered[middle + half] - centre:
            low = middle + 1
        else:
            high = middle
    beyond = min(
        centre - ordered[low - 1] if low else math.inf,
        ordered[low + half] - centre if low + half < n else math.inf,
    )
    if n % 2:
        return beyond
    return 0.5 * (max(centre - ordered[low], ordered[low + half - 1] - centre) + beyond)


class Robust(Memory):
    """Median and MAD over the last ``WINDOW`` values, with a floor on the MAD.

    The floor is learned from the run itself: the median distance between neighbours, over √2, is what the MAD of pure noise would be,
    whatever the drift. It is taken once per window, and the floor is the median over the last ``FLOORS`` windows. Without it a quiet
    stretch makes the next ordinary value look extreme. ``least`` bounds sigma from below where a signal is smoother than anybody's
    patience (full batches: 0.01 on a log scale means that a change of 1 % is never called unusual, let alone 8 σ).

    ``push`` and ``z`` take about 2 µs together, and most values need no ``z``: see ``is_usual``.
    """

    __slots__ = ("_centre", "_distances", "_floor", "_floors", "_last", "_least_sigma", "_ordered", "_sigma", "_window", "least")

    def __init__(self, least: float = 0.01) -> None:
        self.least = least
        self._window: deque[float] = deque()
        self._ordered: list[float] = []
        self._distances: list[float] = []
        self._floors: deque[float] = deque(maxlen=FLOORS)
        self._floor = 0.0
        self._least_sigma = least  # what sigma cannot be below, as it stands
        self._last: float | None = None
        self._centre: float | None = 0.0  # this and the next: None where not computed since the last push
        self._sigma: float | None = least

    def __len__(self) -> int:
        return len(self._ordered)

    def push(self, value: float) -> None:
        """Take a finite value in; the oldest beyond the window goes."""
        last, self._last = self._last, value
        if last is not None:
            distances = self._distances
            distances.append(abs(value - last))
            if len(distances) >= WINDOW:
                self._learn_floor()
        window, ordered = self._window, self._ordered
        window.append(value)
        insort(ordered, value)
        if len(ordered) > WINDOW:
            del ordered[bisect_left(ordered, window.popleft())]
        self._centre = self._sigma = None

    @property
    def centre(self) -> float:
        """The median; 0 where nothing was pushed."""
        centre = self._centre
        if centre is None:
            centre = self._centre = median(self._ordered)
        return centre

    @property
    def sigma(self) -> float:
        """The spread, as a standard deviation, never below its floor."""
        sigma = self._sigma
        if sigma is None:
            mad = middle_distance(self._ordered, self.centre)
            sigma = self._sigma = max(MAD_TO_SIGMA * max(mad, self._floor), self.least)
        return sigma

    def z(self, value: float) -> float:
        """How many sigma ``value`` stands above the median (negative: below)."""
        return (value - self.centre) / self.sigma

    def is_usual(self, value: float, bar: float) -> bool:
        """True: ``z`` is surely not above ``bar`` (0 or more), which the floor alone says of nearly all healthy values, without the MAD.
        False: it has to be computed."""
        centre, least = self._centre, self._least_sigma
        if centre is None:
            centre = self._centre = median(self._ordered)
        above = value - centre
        return above <= 0.0 or (least > 0.0 and above / least <= bar)

    def clear(self) -> None:
        """Forget the window, keep what was learned about the noise."""
        self._window.clear()
        self._ordered.clear()
        self._distances.clear()
        self._last = None
        self._centre, self._sigma = 0.0, self.least

    def _learn_floor(self) -> None:
        """From the distances of one window."""
        self._distances.sort()
        self._floors.append(median(self._distances) / 2**0.5)
        self._distances = []
        self._floor = median(sorted(self._floors))
        self._least_sigma = max(MAD_TO_SIGMA * self._floor, self.least)
