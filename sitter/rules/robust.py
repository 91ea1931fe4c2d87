"""What is usual for a signal: median and spread of its last points, which a few bad ones cannot move."""

import math
from bisect import bisect_left, insort
from collections import deque
from operator import sub

from sitter.rules.memory import Memory
from sitter.rules.wander import Smoothness, strayed, turned

WINDOW = 40
"""Points. Long enough for a median that one bad batch does not move, short enough to follow a falling loss."""

MAD_TO_SIGMA = 1.4826
"""MAD × this = standard deviation of a normal distribution."""

FLOORS = 32
"""How many windows' floors are remembered."""

TOGETHER = WINDOW // 2
"""Values of a full window that are sorted in together. With more nothing would be known of the median meanwhile."""

FEW = 4
"""So many are sorted in one by one, where somebody asks meanwhile; more of them at once."""

LOWER_MIDDLE = (WINDOW - 1) // 2
"""Place of the value that the median of a full window is not below."""


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
    patience (full batches: 0.01 on a log scale means that a change of 1 % is never called unusual, let alone 8 σ). Of a running mean
    neighbours say nothing; there the floor goes by points further apart, see ``wander.py``.

    Values are sorted in ``TOGETHER`` at a time, or when somebody asks: nearly all are known to be usual without that (``is_usual``). So
    ``push`` and ``is_usual`` take about 0.5 µs together; ``z`` some 3 µs.
    """

    __slots__ = (
        "_centre", "_floor", "_floors", "_learning", "_least_sigma", "_new", "_ordered", "_past", "_room", "_sigma", "_smoothness",
        "_strayed", "_window", "least",
    )  # fmt: skip

    def __init__(self, least: float = 0.01) -> None:
        self.least = least
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._ordered: list[float] = []  # the same, sorted
        self._new: list[float] = []  # pushed, and not taken into any of it yet
        self._room = 1  # so many new ones are taken in together
        self._learning: list[float] = []  # taken in since the floor was learned last, from the last one before on
        self._past: list[float] = []  # the window before that
        self._smoothness = Smoothness()
        self._strayed: deque[float] = deque(maxlen=FLOORS)
        self._floors: deque[float] = deque(maxlen=FLOORS)
        self._floor = 0.0
        self._least_sigma = least  # what sigma cannot be below, as it stands
        self._centre = 0.0  # of what is taken in
        self._sigma: float | None = least  # the same; None where not computed since

    def __len__(self) -> int:
        return len(self._ordered)  # new ones wait only once it is full

    def push(self, value: float) -> None:
        """Take a finite value in; the oldest beyond the window goes."""
        new = self._new
        new.append(value)
        if len(new) >= self._room:
            self._take_in()

    @property
    def centre(self) -> float:
        """The median; 0 where nothing was pushed."""
        if self._new:
            self._take_in()
        return self._centre

    @property
    def low(self) -> float:
        """What ``centre`` is not below, without sorting: each new value moves the median down by one place at most."""
        new = self._new
        return self._ordered[LOWER_MIDDLE - len(new)] if new else self._centre

    @property
    def sigma(self) -> float:
        """The spread, as a standard deviation, never below its floor."""
        centre, sigma = self.centre, self._sigma
        if sigma is None:
            mad = middle_distance(self._ordered, centre)
            sigma = self._sigma = max(MAD_TO_SIGMA * max(mad, self._floor), self.least)
        return sigma

    @property
    def high(self) -> float:
        """What nine tenths of the window are not above; 0 where nothing was pushed."""
        ordered = self._ordered
        return ordered[9 * len(ordered) // 10] if ordered else 0.0

    @property
    def is_smoothed(self) -> bool:
        """It is a running mean: what is known of a point is known of its neighbours."""
        return self._smoothness.is_smoothed

    def z(self, value: float) -> float:
        """How many sigma ``value`` stands above the median (negative: below)."""
        return (value - self.centre) / self.sigma

    def is_usual(self, value: float, bar: float) -> bool:
        """True: ``z`` is surely not above ``bar`` (0 or more), which the floor alone says of nearly all healthy values, without the MAD,
        and mostly without the median itself. False: it has to be computed."""
        new, least = self._new, self._least_sigma
        above = value - (self._ordered[LOWER_MIDDLE - len(new)] if new else self._centre)
        if above <= 0.0 or (least > 0.0 and above / least <= bar):
            return True
        above = value - self.centre
        return above <= 0.0 or (least > 0.0 and above / least <= bar)

    def clear(self) -> None:
        """Forget the window, keep what was learned about the noise."""
        self._window.clear()
        self._ordered, self._new, self._learning, self._past, self._room = [], [], [], [], 1
        self._centre, self._sigma = 0.0, self.least

    def _take_in(self) -> None:
        """The new ones, as if one by one."""
        new, window, learning, ordered = self._new, self._window, self._learning, self._ordered
        if len(new) > FEW:
            window.extend(new)
            ordered = self._ordered = sorted(window)
        else:
            for value in new:
                if len(window) == WINDOW:
                    del ordered[bisect_left(ordered, window[0])]
                window.append(value)
                insort(ordered, value)
        learning += new
        new.clear()
        if len(learning) > WINDOW:
            learning = self._learn_floor(learning)
        self._centre, self._sigma = median(ordered), None
        # never beyond the next floor, so that what ``is_usual`` goes by is not older than the values
        self._room = min(TOGETHER, WINDOW + 1 - len(learning)) if len(ordered) == WINDOW else 1

    def _learn_floor(self, learning: list[float]) -> list[float]:
        """From the distances of one window; the next begins where it ends."""
        moves = list(map(sub, learning[1:], learning))
        self._floors.append(median(sorted(map(abs, moves))) / 2**0.5)
        self._smoothness.count(*turned(moves))
        past = self._past + learning if self._past else []
        if len(past) > WINDOW:
            self._strayed.append(strayed(past))
        self._past = learning[:-1]
        self._learning = learning[-1:]
        self._floor = median(sorted(self._floors))
        if self._strayed and self.is_smoothed:
            self._floor = max(self._floor, median(sorted(self._strayed)))
        self._least_sigma = max(MAD_TO_SIGMA * self._floor, self.least)
        return self._learning
