"""How long a run can be silent, learned from its own pauses: a bound that no pause of a known kind exceeds."""

import math
from statistics import NormalDist

PER_OCTAVE = 4
"""Bins of a quarter octave: a pause is known to 19 %, and a run of a week takes some fifty numbers."""
APART = 4
"""Kinds of pauses (a step, an evaluation, a checkpoint) are told apart where nothing was seen over a whole octave between them."""

PRIOR_SPREAD = 0.3
"""Standard deviation of the logarithm that a kind is thought to have before it was seen often: the same piece of work on a machine that
others use as well takes a third more or less."""
PRIOR_WEIGHT = 4
"""Pauses that this belief is worth."""
ALARMS = 0.05
"""The chance that a healthy run's pauses of one kind, however many there will be, exceed the bound once."""

_WIDTH = math.log(2.0) / PER_OCTAVE


class Pauses:
    """Pauses of one phase in seconds, as a histogram of their logarithms. ``add`` is O(1), ``explains`` about 50 µs.

    The bound is the upper prediction limit for one more pause of the longest kind, whose logarithm is taken as normal with unknown mean
    and variance and a weak prior on the variance (the posterior predictive distribution is Student's t: Gelman et al., Bayesian Data
    Analysis, 3rd ed., §3.3). After m pauses of that kind the level is ``ALARMS / (m (m + 1))``, whose sum over all m is ``ALARMS``: so the
    promise holds for the whole run and not for each pause. No multiple is fixed: after one pause the bound is 3.2 times its length
    (little is known), after ten alike 2.1 times, after a hundred 1.4 times, and a kind that scatters keeps a wide one.

    It says nothing of kinds that have not been seen yet: the first evaluation is longer than anything. That is the rule's to allow for.
    """

    def __init__(self) -> None:
        self.bins: dict[int, int] = {}
        self.longest = 0.0
        self._bound: float | None = 0.0
        self._place, self._least, self._most = 0, math.inf, 0.0  # of the newest, and how short and long others in that bin were

    def add(self, seconds: float) -> None:
        """One pause that the run has come back from."""
        if self._least <= seconds <= self._most:  # what lies between two of a bin lies in it: as most of the steps of a run
            self.bins[self._place] += 1
            self._bound = None
        elif 0.0 < seconds < math.inf:
            self._add(seconds)

    def _add(self, seconds: float) -> None:
        """Into a bin that has to be looked for."""
        self._bound = None
        bins, place = self.bins, math.floor(math.log(seconds) / _WIDTH)
        bins[place] = bins.get(place, 0) + 1
        if seconds > self.longest:
            self.longest = seconds
        if place == self._place:
            self._least, self._most = min(self._least, seconds), max(self._most, seconds)
        else:
            self._place, self._least, self._most = place, seconds, seconds

    def recall(self, longest: float, bins: dict[int, int]) -> None:
        """What was known before."""
        self.longest, self.bins, self._bound = longest, bins, None if bins else 0.0
        self._least, self._most = math.inf, 0.0

    def explains(self) -> float:
        """Seconds up to which a pause is one of those that are known; 0 before there was any."""
        if self._bound is None:
            count, mean, variance = self._longest_kind()
            dof = PRIOR_WEIGHT + count - 1
            spread = math.sqrt((PRIOR_WEIGHT * PRIOR_SPREAD**2 + (count - 1) * variance) / dof * (1.0 + 1.0 / count))
            self._bound = max(self.longest, math.exp(mean + t_quantile(ALARMS / (count * (count + 1.0)), dof) * spread))
        return self._bound

    def _longest_kind(self) -> tuple[int, float, float]:
        """(count, mean, variance) of the logarithms of the longest kind."""
        places = sorted(self.bins, reverse=True)
        kind = [places[0]]
        for place in places[1:]:
            if kind[-1] - place > APART:
                break
            kind.append(place)
        count = sum(self.bins[p] for p in kind)
        # the longest is known exactly, and for a kind seen once that is all of it
        logs = {p: math.log(self.longest) if p == places[0] else (p + 0.5) * _WIDTH for p in kind}
        mean = sum(self.bins[p] * logs[p] for p in kind) / count
        squares = sum(self.bins[p] * (logs[p] - mean) ** 2 for p in kind)
        within = _WIDTH**2 / 12.0  # of a value somewhere in its bin
        return count, mean, squares / max(1, count - 1) + within


def t_quantile(tail: float, dof: float) -> float:
    """The value that Student's t exceeds with probability ``tail`` (below ½), to 6 digits from 4 degrees of freedom on.
    Hill, Algorithm 396: Student's t-quantiles, Communications of the ACM 13 (1970)."""
    n, p = dof, 2.0 * tail
    a = 1.0 / (n - 0.5)
    b = 48.0 / (a * a)
    c = ((20700.0 * a / b - 98.0) * a - 16.0) * a + 96.36
    d = ((94.5 / (b + c) - 3.0) / b + 1.0) * math.sqrt(a * math.pi / 2.0) * n
    y = (d * p) ** (2.0 / n)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(tail)
        y = x * x
        if n < 5:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5.0) * x - 7.0) * x - 2.0) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36.0) * y + 94.5) / c - y - 3.0) / b + 1.0) * x
        y = math.expm1(a * y * y)
    else:
        y = ((1.0 / (((n + 6.0) / (n * y) - 0.089 * d - 0.822) * (n + 2.0) * 3.0) + 0.5 / (n + 4.0)) * y - 1.0) * (n + 1.0) / (
            n + 2.0
        ) + 1.0 / y
    return math.sqrt(n * y)
