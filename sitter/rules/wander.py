"""How far a smoothed signal wanders: a running mean, as many programs print it, moves little from point to point and far over twenty.

The distance between neighbours tells the noise of a signal only if each point is a throw of its own. By its neighbours alone every turn of
a running mean would be a wonder.
"""

import math
from collections.abc import Sequence
from operator import mul, sub

from sitter.rules.memory import Memory

LAG = 20
"""Points over which it is looked at: as far as the middle of the window with which a point is compared lies behind it."""

BLOCK = 256
"""Points of which it is asked how many of them turn."""

TURNS, BLOCK_TURNS = 0.58, 0.63
"""Of white noise two points in three are higher, or lower, than both their neighbours, whatever its distribution (in a block 0.03 less or
more); of a running mean that keeps half of what was 0.58, nine tenths 0.52. It is one if fewer turn in all, and in no block more: a running
mean is smooth at all times, a loss that has moods or spikes is so only in these."""

TAIL = 0.6745 / 1.6449
"""90th percentile of the distances × this = their median, were they normal: the wider of both counts."""


class Smoothness(Memory):
    """Whether a signal is a running mean."""

    __slots__ = ("_all", "_all_turns", "_most", "_pairs", "_turns")

    def __init__(self) -> None:
        self._turns = self._pairs = self._all = self._all_turns = 0
        self._most = 0.0  # the largest share that turned in a block so far

    @property
    def is_smoothed(self) -> bool:
        """Not known of the first block: there the loss falls fast, and so smoothly."""
        return 0.0 < self._most < BLOCK_TURNS and self._all_turns < TURNS * self._all

    def count(self, pairs: int, turns: int) -> None:
        """So many points more, of which so many turned."""
        self._pairs += pairs
        self._turns += turns
        if self._pairs >= BLOCK:
            self._most = max(self._most, self._turns / self._pairs, 1e-9)
            self._all += self._pairs
            self._all_turns += self._turns
            self._pairs = self._turns = 0


def turned(moves: Sequence[float]) -> tuple[int, int]:
    """Of how many points it is known, and how many turned. ``moves``: from each point to the next; where there is none it says nothing."""
    pairs = list(map(mul, moves, moves[1:]))
    turns = sum(pair < 0.0 for pair in pairs)
    return turns + sum(pair > 0.0 for pair in pairs), turns


def strayed(values: Sequence[float]) -> float:
    """The median distance of a point from the straight line through the two that lie ``LAG`` and twice ``LAG`` before it, over √6: what
    the MAD of white noise would be, whatever the drift. 0 where there are too few."""
    if len(values) <= 2 * LAG + 1:
        return 0.0
    steps = list(map(sub, values[LAG:], values))
    bends: list[float] = sorted(map(abs, map(sub, steps[LAG:], steps)))
    return max(bends[len(bends) // 2], bends[9 * len(bends) // 10] * TAIL) / math.sqrt(6.0)
