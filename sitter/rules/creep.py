"""Whether a figure creeps towards its limit: robust slopes over minima of equal stretches, on three horizons."""

from collections import deque
from typing import NamedTuple

WIDTHS_S = (10.0, 60.0, 600.0)
"""Of one stretch; a horizon is ``MOST`` of them: ten minutes, an hour, ten hours."""
MOST, FEWEST = 60, 30
REACH = 3.0
"""No trend is believed further ahead than so many times the span in which it was seen."""
RISING = 0.8
"""Share of the pairs of stretches that must rise (Kendall's tau ≥ 0.6; 30 stretches of noise reach 0.66 once in a thousand)."""
STILL = 0.6
"""The same of the last third alone: a start-up that is over does not."""
CAME_BACK = 0.5
"""What fell once by so much of its rise is a sawtooth: garbage that is collected, a buffer that is written out."""


class Trend(NamedTuple):
    """Per second, and in how many seconds the limit is met at that; seen over ``span`` seconds, in which ``grown`` were added."""

    slope: float
    seconds: float
    span: float
    grown: float


class Creep:
    """One figure. ``add`` at any rate; there is something new once a minute."""

    def __init__(self) -> None:
        self._horizons = [_Horizon(width) for width in WIDTHS_S]

    def add(self, now: float, value: float) -> bool:
        """Whether a minute is complete, so that ``trend`` may have changed."""
        return [h.add(now, value) for h in self._horizons][1]

    def trend(self, limit: float) -> Trend | None:
        """The most urgent that can be believed; None where it does not creep."""
        found: list[Trend] = []
        for horizon in reversed(self._horizons):
            if horizon.came_back():
                break  # what is a tooth from afar is a slope from near
            trend = horizon.trend(limit)
            if trend is not None:
                found.append(trend)
        return min(found, key=lambda t: t.seconds, default=None)


    def slope(self, span: float) -> float | None:
        """Per second, over the horizon nearest to ``span``; None where too little is known."""
        known = [h for h in self._horizons if len(h.lows) >= FEWEST // 2]
        if not known:
            return None
        nearest = min(known, key=lambda h: abs(h.lows[-1][0] - h.lows[0][0] - span))
        return theil_sen(list(nearest.lows))[0]


class _Horizon:
    def __init__(self, width: float) -> None:
        self._width = width
        self._begins: float | None = None
        self._least = 0.0
        self.lows: deque[tuple[float, float]] = deque(maxlen=MOST)
        """Of each stretch its beginning and the least that was seen: peaks of an evaluation do not count."""

    def add(self, now: float, value: float) -> bool:
        if self._begins is None:
            self._begins, self._least = now, value
        elif now - self._begins < self._width:
            self._least = min(self._least, value)
        else:
            self.lows.append((self._begins, self._least))
            self._begins, self._least = now, value
            return True
        return False

    def came_back(self) -> bool:
        """A sawtooth, as far as this horizon reaches: much of what it rose it fell again."""
        top, fell = float("-inf"), 0.0
        for _, value in self.lows:
            top = max(top, value)
            fell = max(fell, top - value)
        return len(self.lows) > 1 and fell > CAME_BACK * (top - self.lows[0][1])

    def trend(self, limit: float) -> Trend | None:
        if len(self.lows) < FEWEST:
            return None
        points = list(self.lows)
        span, left = points[-1][0] - points[0][0], max(0.0, limit - points[-1][1])
        if points[-1][1] <= points[0][1] or left / (points[-1][1] - points[0][1]) > 2 * REACH:
            return None  # cheap, and true most of the time
        whole, rising = theil_sen(points)
        _, still = theil_sen(points[-(len(points) // 3) :])
        if rising < RISING or still < STILL:
            return None
        half = len(points) // 2
        early, late = theil_sen(points[:half])[0], theil_sen(points[half:])[0]
        if late <= 0 or levels_off(early, late) * late * span / 2 < left:
            return None
        slope = min(whole, late)
        seconds = left / slope
        return Trend(slope, seconds, span, whole * span) if seconds <= REACH * span else None


def levels_off(early: float, late: float) -> float:
    """How many times the growth of the last half is still to come if it goes on to slow down as it did: a geometric series. A cache that
    fills, or an allocator that finds its size, has little left; where nothing slows down it has no end."""
    ratio = late / early if early > 0 else 1.0
    return float("inf") if ratio >= 1.0 else ratio / (1.0 - ratio)


def theil_sen(points: list[tuple[float, float]]) -> tuple[float, float]:
    """(median of the slopes of all pairs, share of pairs that rise). Up to 29 % of the points may be anything (Sen 1968)."""
    slopes = sorted([(y - b) / (x - a) for i, (a, b) in enumerate(points) for x, y in points[i + 1 :] if x > a])
    if not slopes:
        return 0.0, 0.0
    return slopes[len(slopes) // 2], sum(s > 0 for s in slopes) / len(slopes)
