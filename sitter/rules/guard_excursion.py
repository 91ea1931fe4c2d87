"""A loss that has left the level of its last points: by what is usual over the last fifteen, and noise learned from neighbours.

The median of a whole window, and the spread within it, say little where the loss falls fast: the median lags above, and the spread is the
descent's and not the noise's, so that the loss may double and stay there without standing out.
"""

import math
from collections import deque

from sitter.rules.course import LEVEL_FROM, LEVEL_POINTS, Noise
from sitter.rules.memory import Memory
from sitter.rules.robust import median

OF_POINTS = 5
"""Points among which those are counted that stand out."""

FAR, FAR_Z, FAR_POINTS = math.log(1.35), 5.5, 3
"""So far above (log scale), and so many standard deviations, in so many of them: what ``spike`` says; …"""

HIGH, HIGH_Z, HIGH_POINTS = math.log(1.5), 4.0, 4
"""… or less clear of a larger noise, and further above, in more of them."""

LEARN_AFTER = 20
"""Points in a row that stand out, after which they are learned as any other level."""

NOISE_FROM = 20
"""Distances between neighbours from which on the noise is known well enough to act by it."""


class Excursion(Memory):
    """Point by point, log scale. ``odd``: the newest stands out; ``rise``, ``z``: by how much, where it does; else 0. Where the loss
    stands is asked of one point in ten, so the last ones are sorted when it is."""

    __slots__ = ("_far", "_held", "_high", "_lasts", "_noise", "odd", "rise", "z")

    def __init__(self) -> None:
        self._lasts: deque[float] = deque(maxlen=LEVEL_POINTS)
        self._noise = Noise(smoothed=True)
        self._far: deque[bool] = deque(maxlen=OF_POINTS)
        self._high: deque[bool] = deque(maxlen=OF_POINTS)
        self._held = 0
        self.odd = False
        self.rise = self.z = 0.0

    @property
    def usual(self) -> float:
        """Where it usually stands, the median of the last ordinary points; 0 where there was none."""
        return median(sorted(self._lasts)) if self._lasts else 0.0

    @property
    def sigma(self) -> float:
        """How much it moves by itself."""
        return self._noise.tails

    def push(self, step: int, value: float, high: float, *, frozen: bool) -> bool:
        """One more point; whether so many of the last stand out that it is no bad batch. What is not clear of ``high``, the upper end of
        a whole window, is no excursion: there the loss has just been. ``frozen``: nothing is learned from it."""
        lasts, noise = self._lasts, self._noise
        self.odd, self.rise, self.z = False, 0.0, 0.0
        far = up = False
        if value > high and len(lasts) >= LEVEL_FROM and len(noise) >= NOISE_FROM and (rise := value - self.usual) > FAR:
            sigma = noise.tails
            z = rise / sigma
            if value > high + sigma:
                far, up = z > FAR_Z, rise > HIGH and z > HIGH_Z
            if far or up:
                self.odd, self.rise, self.z = True, rise, z
        self._far.append(far)
        self._high.append(up)
        if not frozen:
            noise.push(step, value)
            self._held = self._held + 1 if self.odd else 0
            if not 0 < self._held <= LEARN_AFTER:
                lasts.append(value)
        return self.odd and (sum(self._far) >= FAR_POINTS or sum(self._high) >= HIGH_POINTS)

    def forget(self) -> None:
        """Which of the last points stood out: they have been left behind."""
        self._far.clear()
        self._high.clear()

    def clear(self) -> None:
        """Begin anew; the noise stays known."""
        self.forget()
        self._lasts.clear()
        self._held = 0
