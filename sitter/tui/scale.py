"""From values to dots: the range that shows what matters, ticks at round numbers, and their labels."""

import itertools
import math
from collections.abc import Sequence

from sitter.tui import formats

HUGE = 1e300
"""What is beyond it cannot be drawn: the difference of two such values is infinite."""
FLAT = 1e-4
"""Of the value: a range below it is rounding, not movement."""
FAR = 10_000.0
"""Dots; further outside the field makes no difference."""


def finite(values: Sequence[float]) -> list[float]:
    """What can be drawn: without nan, ±inf, and what is next to them."""
    return [v for v in values if abs(v) < HUGE]


def value_range(smooth: Sequence[float], band: Sequence[float], *, log: bool, whole: bool = False) -> tuple[float, float] | None:
    """Lowest and highest value to show. A spike must not flatten the rest, unless the ``whole`` line is asked for.

    The smooth line always fits but for its highest 1.5 %, which may be a spike: they fit too where that takes no more than 60 % on top.
    Of the band the middle 96 % fit. ``log`` leaves out what is not above 0. None where nothing is finite.
    """
    line = sorted(v for v in finite(smooth) if not log or v > 1 / HUGE)
    if not line:
        return None
    wide = sorted(v for v in finite(band) if not log or v > 1 / HUGE)
    low, high = line[0], line[-1]
    cut = line[max(0, math.ceil(len(line) * 0.985) - 1)]
    to = math.log10 if log else float
    if not whole and to(high) - to(cut) > 0.6 * max(to(cut) - to(low), 1e-12) and len(line) > 20:
        high = cut
    if wide:
        low = min(low, wide[int(len(wide) * 0.02)])
        high = max(high, wide[min(len(wide) - 1, int(len(wide) * 0.98))]) if high != cut else high
    return padded(low, high, log=log)


def padded(low: float, high: float, *, log: bool = False) -> tuple[float, float]:
    """A little air on both sides, and never an empty range: what hardly differs is drawn as the flat line it is.

    Such a line lies a little above the middle: in the very middle, between two dots, rounding would make it waver.
    """
    if log:
        a, b = math.log10(low), math.log10(high)
        air = max((b - a) * 0.04, 0.01)
        return 10 ** max(a - air, -307.0), 10 ** min(b + air, 307.0)
    flat = high - low <= FLAT * max(abs(low), abs(high))
    air = max(abs(high) * 0.05, 1e-12) if flat else (high - low) * 0.04
    return low - air, high + (0.9 * air if flat else air)


class Scale:
    """Values onto ``dots`` rows, 0 at the top."""

    def __init__(self, low: float, high: float, dots: int, *, log: bool = False) -> None:
        self.low, self.high, self.dots, self.log = low, high, dots, log
        self._a = math.log10(low) if log else low
        self._b = math.log10(high) if log else high
        self._per = (dots - 1) / ((self._b - self._a) or 1.0)

    def at(self, value: float) -> float | None:
        """Its dot row, maybe outside the field; None where it has none (not finite, or not above 0 on a log scale)."""
        if not abs(value) < HUGE or (self.log and value <= 0):
            return None
        row = (self._b - (math.log10(value) if self.log else value)) * self._per
        return -FAR if row < -FAR else FAR if row > FAR else row

    def ticks(self, wanted: int) -> list[float]:
        """About ``wanted`` round values inside the range."""
        return log_ticks(self.low, self.high, wanted) if self.log else linear_ticks(self.low, self.high, wanted)


def linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of 1, 2 or 5 × a power of ten, at most ``wanted`` of them (at least one where one fits)."""
    span = high - low
    if not (math.isfinite(span) and span > 0) or wanted < 1:
        return []
    size = 10.0 ** math.floor(math.log10(span / wanted))
    for factor in (1, 2, 5, 10, 20, 50):
        every = size * factor
        first, last = math.ceil(low / every - 1e-9), math.floor(high / every + 1e-9)
        if last - first + 1 <= wanted:
            return [i * every for i in range(first, last + 1)]
    return []


def log_ticks(low: float, high: float, wanted: int) -> list[float]:
    """1, 2, 5 × powers of ten; powers only where that is too many; linear ones where the range is narrow."""
    first, last = math.floor(math.log10(low)), min(307, math.ceil(math.log10(high)))
    for factors in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**e for e in range(first, last + 1) for f in factors if low <= f * 10.0**e <= high]
        if len(found) <= wanted:
            break
    else:
        every = math.ceil((last - first + 1) / max(wanted, 1))
        found = [10.0**e for e in range(first, last + 1, every) if low <= 10.0**e <= high]
    return found if len(found) >= 2 else linear_ticks(low, high, wanted)


def labels(ticks: Sequence[float]) -> list[str]:
    """As short as still tells them apart."""
    if not ticks:
        return []
    biggest = max(abs(t) for t in ticks)
    if biggest and (biggest < 1e-3 or biggest >= 1e6):
        return [formats.value(t, 3) if t else "0" for t in ticks]
    gaps = [abs(b - a) for a, b in itertools.pairwise(ticks)]
    fine = min(gaps) if gaps else biggest or 1.0
    places = min(6, max(0, -math.floor(math.log10(fine) + 1e-9))) if fine > 0 else 0
    return [f"{t:,.{places}f}" for t in ticks]


def short_labels(ticks: Sequence[float]) -> list[str]:
    """The same for long axes: ``8k``, ``8.5k``, ``1.2M``."""
    if not ticks or max(abs(t) for t in ticks) < 1000:
        return labels(ticks)
    size, unit = (1e6, "M") if max(abs(t) for t in ticks) >= 1e6 else (1e3, "k")
    return [t + unit if float(t) else "0" for t in labels([t / size for t in ticks])]
