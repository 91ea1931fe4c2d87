"""The course of a loss, on a log scale: where it stands, how much it moves by itself, how far it has risen from its best."""

import math
from bisect import bisect_left, insort
from collections import deque

from sitter.rules.memory import Memory
from sitter.rules.robust import MAD_TO_SIGMA, median
from sitter.rules.wander import Smoothness, strayed

LEVEL_POINTS = 15
"""Points whose median is where the loss stands: few, so that it follows a falling loss. Odd."""

LEVEL_FROM = 5
"""Points from which on that median is believed."""

NOISE_POINTS = 256
"""Distances between neighbours from which the noise is learned: many, so that a dozen bad points leave it as it is."""

EVALUATIONS = 3
"""Whose median is taken: one that is far off (BatchNorm) moves nothing."""

WANDER_EVERY = 16
"""Points between two looks at how far a signal wanders."""

FEW = 8
"""So many new distances are sorted in one by one; more of them at once."""

PATH = 5
"""Evaluations over which it is looked at which of two losses rose first."""

NEAR = 0.05
"""On a log scale: so near its best all was still well."""

SPARSER = 4
"""The log is another one when its points lie so many times further apart than the two before."""

GRAINS, GRAIN_TIMES = 3.5, 4
"""Steps of a rounded log that say nothing: what is 0.02 may have been 0.025, and the next 0.015. It must have been seen so often."""

LEAST = 0.01
"""A standard deviation is never taken for less (log scale): full batches have no noise."""

MIDDLE, TAIL = 1.4826 / math.sqrt(2.0), 1.0 / (1.6449 * math.sqrt(2.0))
"""Median, and 90th percentile, of the distances between neighbours × this = standard deviation, were they normal."""


def times(rise: float) -> str:
    """A rise on a log scale as people say it: ``2.3``, ``41``, ``1,200``."""
    factor = math.exp(min(700.0, rise))
    return f"{factor:.2g}" if factor < 10 else f"{factor:,.0f}" if factor < 1e6 else f"{factor:.1e}"


class Noise(Memory):
    """How much a signal moves by itself, learned from the distances between neighbours, which a drift does not widen.

    ``middle`` goes by their median, ``tails`` by their 90th percentile: some losses swing between two levels by nature (mixup) and have
    long tails in place of a wide middle. ``least`` bounds both from below: full batches have no noise. What lies between neighbours
    depends on how many steps do: where a log becomes four times as sparse (every step at first, later every hundredth), it is learned
    anew. ``smoothed``: it may be a running mean, which is known by points further apart, see ``wander.py``. Distances are sorted when
    somebody asks, which is seldom.
    """

    __slots__ = (
        "_distances", "_gap", "_last", "_last_step", "_move", "_ordered", "_since", "_smoothness", "_strayed", "_values", "least",
        "smoothed",
    )  # fmt: skip

    def __init__(self, least: float = LEAST, *, smoothed: bool = False) -> None:
        self.least = least
        self.smoothed = smoothed
        self._distances: deque[float] = deque()
        self._ordered: list[float] = []  # the first of them, sorted
        self._last: float | None = None
        self._last_step = 0
        self._gap = 0  # steps between the newest neighbours
        self._values: deque[float] = deque(maxlen=NOISE_POINTS)
        self._smoothness = Smoothness()
        self._move = 0.0  # from the last point but one to the last
        self._strayed = 0.0  # how far it strays, where it is smoothed; as of when it was looked at
        self._since = 0  # points since then

    def __len__(self) -> int:
        return min(len(self._distances), NOISE_POINTS)

    @property
    def _wander(self) -> float:
        """A standard deviation of a running mean; 0 where it is none."""
        if self._since >= WANDER_EVERY and self._values:
            self._since = 0
            self._strayed = MAD_TO_SIGMA * strayed(list(self._values)) if self._smoothness.is_smoothed else 0.0
        return self._strayed

    @property
    def middle(self) -> float:
        """A standard deviation, by the middle of the distribution."""
        ordered = self._in_order()
        return max(MIDDLE * ordered[len(ordered) // 2], self._wander, self.least) if ordered else self.least

    @property
    def tails(self) -> float:
        """A standard deviation, by its tails where these are wider."""
        ordered = self._in_order()
        return max(self.middle, TAIL * ordered[9 * len(ordered) // 10]) if ordered else self.least

    def push(self, step: int, value: float) -> None:
        """One more point, finite."""
        last, self._last = self._last, value
        gap, self._last_step = step - self._last_step, step
        if last is None:
            return
        if gap >= SPARSER * self._gap > 0:
            self._values.clear()
            self._distances.clear()
            self._ordered.clear()
        self._gap = gap
        move = value - last
        distances = self._distances
        distances.append(abs(move))
        if self.smoothed:
            self._values.append(value)
            self._since += 1
            pair, self._move = move * self._move, move
            if pair:
                self._smoothness.count(1, pair < 0.0)
        if len(distances) >= 2 * NOISE_POINTS:
            self._in_order()

    def _in_order(self) -> list[float]:
        """The last distances, sorted."""
        distances, ordered = self._distances, self._ordered
        new = len(distances) - len(ordered)
        if new > FEW:
            while len(distances) > NOISE_POINTS:
                distances.popleft()
            ordered = self._ordered = sorted(distances)
        elif new:
            for i in range(-new, 0):
                insort(ordered, distances[i])
            while len(ordered) > NOISE_POINTS:
                del ordered[bisect_left(ordered, distances.popleft())]
        return ordered


class Grain(Memory):
    """The step to which a log was rounded, where it was (0.02, 0.03): what lies within a few such steps is the same, however many times
    higher the one is than the other. It is known once the finest distance between neighbours was seen again and again."""

    __slots__ = ("_finest", "_last", "_times")

    def __init__(self) -> None:
        self._finest = math.inf
        self._last: float | None = None
        self._times = 0

    def push(self, value: float) -> None:
        """One more value as it was logged, finite."""
        last, self._last = self._last, value
        if last is None or value == last:
            return
        step, finest = abs(value - last), self._finest
        if step >= 1.01 * finest:
            return  # as nearly always
        if step < 0.99 * finest:
            self._finest, self._times = step, 1
        else:
            self._times += 1

    def tells(self, higher: float, lower: float) -> bool:
        """Whether they are further apart than rounding."""
        return self._times < GRAIN_TIMES or higher - lower > GRAINS * self._finest


class Level(Memory):
    """The median of the last ordinary points, where a signal stands. What is not ordinary is kept out by not pushing it."""

    __slots__ = ("_window", "_within", "centre")

    def __init__(self) -> None:
        self._window: deque[float] = deque()
        self._within: list[float] = []  # the same, sorted
        self.centre = 0.0
        """0 where nothing was pushed."""

    def __len__(self) -> int:
        return len(self._within)

    def push(self, value: float) -> None:
        """One more ordinary point, finite."""
        window, within = self._window, self._within
        window.append(value)
        insort(within, value)
        if len(within) > LEVEL_POINTS:
            del within[bisect_left(within, window.popleft())]
            self.centre = within[LEVEL_POINTS // 2]
        else:
            self.centre = median(within)


class FromBest(Memory):
    """How far the median of the last points stands above the lowest such median before it."""

    __slots__ = ("_window", "_within", "best", "now", "points", "rise")

    def __init__(self, points: int) -> None:
        self.points = points
        self.best = math.inf
        self.now: float | None = None
        """The median of the last points."""
        self.rise: float | None = None
        """Of the newest point; None: too few to say."""
        self._window: deque[float] = deque()
        self._within: list[float] = []

    @property
    def blur(self) -> float:
        """Standard deviation of such a median, in standard deviations of one point."""
        return 1.2533 / math.sqrt(self.points)

    @property
    def nearly_all(self) -> float:
        """How far all but a fifth of the last points stand above the best; ``rise`` must be known."""
        return self._within[self.points // 5] - self.best

    def push(self, value: float) -> None:
        """One more point, finite."""
        window, within, points = self._window, self._within, self.points
        window.append(value)
        insort(within, value)
        if len(within) > points:
            del within[bisect_left(within, window.popleft())]
        elif len(within) < points:
            return
        half = points // 2
        now = within[half] if points % 2 else 0.5 * (within[half - 1] + within[half])
        best = self.best
        self.now = now
        if best < math.inf:
            self.rise = now - best
        if now < best:
            self.best = now


class Witnesses(Memory):
    """Training and validation loss together: two that rise are worth more than one.

    Each time the validation loss is logged, it is compared with the mean of the training losses since the time before, so that both are
    as often and the training loss is as calm. The medians of the last 3 of each stand so far above their best. Nothing is known while
    a value was not positive within the last points. Costs an addition for each training loss.
    """

    __slots__ = ("_count", "_noises", "_path", "_risen", "_settled", "_sum", "resting", "rise", "well", "z")

    def __init__(self) -> None:
        self.rise: float | None = None
        """The lesser of both, log scale, when last looked at; None: too few to say."""
        self.z = 0.0
        """The lesser of both, in standard deviations of such a median."""
        self.well = 0
        """Last step at which one of them stood near its best."""
        self.resting = 0
        self._path: deque[tuple[float, float]] = deque(maxlen=PATH)  # how far each had risen, of the last evaluations
        self._settled: float | None = None  # where the training loss has settled while the validation loss was still on its way
        self._sum, self._count = 0.0, 0
        self._risen = FromBest(EVALUATIONS), FromBest(EVALUATIONS)
        self._noises = Noise(), Noise()

    @property
    def apart(self) -> bool:
        """They have not risen together: the training loss went up first and has settled there, and the validation loss followed. So it
        is when the data change: the model, none the worse, turns to the new ones. What ruins a model shows in both, or ever more."""
        return self._settled is not None

    def loss(self, value: float) -> None:
        """The logarithm of a training loss, finite."""
        self._sum += value
        self._count += 1

    def rest(self) -> None:
        """A loss was not positive."""
        self.resting, self.rise = EVALUATIONS, None
        self._sum, self._count = 0.0, 0

    def val_loss(self, step: int, val: float) -> None:
        """A validation loss, as it was logged."""
        if not self._count or not math.isfinite(val):
            return
        if val <= 0.0 or self.resting:
            self.resting = EVALUATIONS if val <= 0.0 else self.resting - 1
            self.rise, self._sum, self._count = None, 0.0, 0
            return
        rises, zs = [], []
        for value, risen, noise in zip((self._sum / self._count, math.log(val)), self._risen, self._noises, strict=True):
            noise.push(step, value)
            risen.push(value)
            if risen.rise is not None:
                rises.append(risen.rise)
                zs.append(risen.rise / (risen.blur * noise.middle))
        self._sum, self._count = 0.0, 0
        if len(rises) == 2:
            self.rise, self.z = min(rises), min(zs)
            self._follow(*rises)
        if self.rise is None or self.rise < NEAR:
            self.well = step

    def _follow(self, train: float, val: float) -> None:
        """How far both have risen now."""
        settled = self._settled
        if settled is not None and (train > settled + 2.0 * NEAR or min(train, val) < NEAR):
            self._settled = None
        elif settled is None and min(train, val) > NEAR and any(train - then < NEAR and below < 0.5 * val for then, below in self._path):
            self._settled = train
        self._path.append((train, val))
