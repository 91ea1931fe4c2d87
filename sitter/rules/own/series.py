"""What an expression may ask of a signal's past: one class each, fed point by point, O(1) or O(log n) a point.

Values that are not finite are left out: a median with a NaN in it says nothing, and ``finite(loss)`` sees them by itself. Over the last
``n`` points nothing is known until there are ``n`` of them: the mean of two points is no mean of fifty.
"""

import abc
import math
from bisect import bisect_left, insort
from collections import deque
from typing import ClassVar

from sitter.rules.memory import Memory
from sitter.rules.robust import Robust, median

MOST_POINTS = 100_000
"""Of one window: 3 MB, and no expression is any wiser for more."""


class Series(Memory, abc.ABC):
    """Base. ``window``: takes a number of points as its second argument. The class docstring is what the user reads."""

    name: ClassVar[str]
    window: ClassVar[bool] = False

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        """``n`` points; ``higher``: larger values are better."""
        self.n, self.higher = n, higher

    @abc.abstractmethod
    def push(self, value: float, step: int) -> None:
        """The newest finite value, at its step."""

    def value(self) -> float | None:
        """What is asked for; None while it is unknown."""
        return self._value()

    @abc.abstractmethod
    def _value(self) -> float | None: ...


class _Window(Series):
    """The last ``n`` values."""

    window = True

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self.values: deque[float] = deque()

    def push(self, value: float, step: int) -> None:
        """As in ``Series``."""
        self.values.append(value)
        self._came(value)
        if len(self.values) > self.n:
            self._went(self.values.popleft())

    def _came(self, value: float) -> None:
        """One more."""

    def _went(self, value: float) -> None:
        """The oldest goes."""

    @property
    def _full(self) -> bool:
        return len(self.values) >= self.n


class Mean(_Window):
    """Mean of the last n points."""

    name = "mean"

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._sum, self._since = 0.0, 0

    def _came(self, value: float) -> None:
        self._sum += value

    def _went(self, value: float) -> None:
        self._sum -= value
        self._since += 1
        if self._since >= self.n:  # rounding errors do not add up over a week
            self._sum, self._since = math.fsum(self.values), 0

    def _value(self) -> float | None:
        return self._sum / self.n if self._full else None


class Std(_Window):
    """Standard deviation of the last n points."""

    name = "std"

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._base = self._sum = self._squares = 0.0
        self._since = 0

    def _came(self, value: float) -> None:
        if len(self.values) == 1:
            self._base = value
        self._add(value, 1.0)

    def _went(self, value: float) -> None:
        self._add(value, -1.0)
        self._since += 1
        if self._since >= self.n:  # anew, around where the values are now
            self._base, self._since = math.fsum(self.values) / len(self.values), 0
            self._sum = self._squares = 0.0
            for held in self.values:
                self._add(held, 1.0)

    def _add(self, value: float, sign: float) -> None:
        d = value - self._base
        self._sum += sign * d
        self._squares += sign * d * d

    def _value(self) -> float | None:
        if not self._full or self.n < 2:
            return None
        return math.sqrt(max(0.0, self._squares - self._sum * self._sum / self.n) / (self.n - 1))


class Median(_Window):
    """Median of the last n points: a few bad ones cannot move it."""

    name = "median"

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._ordered: list[float] = []

    def _came(self, value: float) -> None:
        insort(self._ordered, value)

    def _went(self, value: float) -> None:
        del self._ordered[bisect_left(self._ordered, value)]

    def _value(self) -> float | None:
        return median(self._ordered) if self._full else None


class _Extreme(_Window):
    """Of the last ``n``, by the values that no later one beats."""

    sign: ClassVar[float]

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._unbeaten: deque[float] = deque()

    def _came(self, value: float) -> None:
        while self._unbeaten and self.sign * self._unbeaten[-1] < self.sign * value:
            self._unbeaten.pop()
        self._unbeaten.append(value)

    def _went(self, value: float) -> None:
        if self._unbeaten and self._unbeaten[0] == value:
            self._unbeaten.popleft()

    def _value(self) -> float | None:
        return self._unbeaten[0] if self._full else None


class Least(_Extreme):
    """Lowest of the last n points."""

    name = "min"
    sign = -1.0


class Most(_Extreme):
    """Highest of the last n points."""

    name = "max"
    sign = 1.0


class Slope(Series):
    """Change per step over the last n points: the straight line through them (least squares)."""

    name = "slope"
    window = True

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._points: deque[tuple[int, float]] = deque()
        self._begin(0, 0.0)

    def _begin(self, step: int, value: float) -> None:
        self._step, self._base, self._since = step, value, 0
        self._x = self._y = self._xx = self._xy = 0.0

    def push(self, value: float, step: int) -> None:
        """As in ``Series``."""
        if not self._points:
            self._begin(step, value)
        self._points.append((step, value))
        self._add(step, value, 1.0)
        if len(self._points) > self.n:
            self._add(*self._points.popleft(), -1.0)
            self._since += 1
            if self._since >= self.n:
                self._begin(*self._points[0])
                for held in self._points:
                    self._add(*held, 1.0)

    def _add(self, step: int, value: float, sign: float) -> None:
        x, y = float(step - self._step), value - self._base
        self._x += sign * x
        self._y += sign * y
        self._xx += sign * x * x
        self._xy += sign * x * y

    def _value(self) -> float | None:
        n = len(self._points)
        if n < self.n:
            return None
        spread = n * self._xx - self._x * self._x
        return (n * self._xy - self._x * self._y) / spread if spread > 0 else None


class Ema(Series):
    """Exponential average over about n points (each counts 2/(n+1)), without the pull of its first value."""

    name = "ema"
    window = True

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._mean, self._weight = 0.0, 0.0

    def push(self, value: float, step: int) -> None:
        """As in ``Series``."""
        alpha = 2.0 / (self.n + 1)
        self._mean += alpha * (value - self._mean)
        self._weight += alpha * (1.0 - self._weight)

    def _value(self) -> float | None:
        return self._mean / self._weight if self._weight else None


class Ago(Series):
    """The value n points ago."""

    name = "ago"
    window = True

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._values: deque[float] = deque(maxlen=n + 1)

    def push(self, value: float, step: int) -> None:
        """As in ``Series``."""
        self._values.append(value)

    def _value(self) -> float | None:
        return self._values[0] if len(self._values) > self.n else None


class Best(Series):
    """Lowest value so far; highest, where it is the run's goal and higher is better."""

    name = "best"

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._best: float | None = None

    def push(self, value: float, step: int) -> None:
        """As in ``Series``."""
        if self._best is None or (value > self._best if self.higher else value < self._best):
            self._best = value

    def _value(self) -> float | None:
        return self._best


class First(Series):
    """The first value of this run."""

    name = "first"

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._first: float | None = None

    def push(self, value: float, step: int) -> None:
        """As in ``Series``."""
        if self._first is None:
            self._first = value

    def _value(self) -> float | None:
        return self._first


class Points(Series):
    """How many (finite) values there were."""

    name = "points"

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._points = 0

    def push(self, value: float, step: int) -> None:
        """As in ``Series``."""
        self._points += 1

    def _value(self) -> float | None:
        return float(self._points)


class _Usual(Series):
    """Of the 40 points before the newest."""

    def __init__(self, n: int = 0, *, higher: bool = False) -> None:
        super().__init__(n, higher=higher)
        self._past = Robust(least=0.0)
        self._newest: float | None = None

    def push(self, value: float, step: int) -> None:
        """As in ``Series``."""
        if self._newest is not None:
            self._past.push(self._newest)
        self._newest = value


class Usual(_Usual):
    """Its usual level: the median of the 40 points before the newest."""

    name = "usual"

    def _value(self) -> float | None:
        return self._past.centre if len(self._past) else None


class Z(_Usual):
    """Robust standard deviations (median and MAD of the 40 points before it) by which it stands above its usual level."""

    name = "z"

    def _value(self) -> float | None:
        if len(self._past) < 10 or self._newest is None:
            return None
        return (self._newest - self._past.centre) / sigma if (sigma := self._past.sigma) > 0 else None


SERIES: dict[str, type[Series]] = {
    kind.name: kind for kind in (Mean, Median, Least, Most, Std, Slope, Ema, Ago, Best, First, Points, Usual, Z)
}
"""Every one there is. A new one is one class and one name here."""
