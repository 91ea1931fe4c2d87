"""The loss falls evenly and with hardly any noise, and has done so since the start: it might go faster."""

import math
from collections import deque
from itertools import pairwise
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import Rule, RuleParams
from sitter.rules.cases import slow
from sitter.rules.course import MIDDLE
from sitter.rules.memory import Memory
from sitter.rules.view import RunView, Sample
from sitter_wire.events import KnobChanged
from sitter_wire.records import Happening

BLOCK, BLOCKS = 32, 32
"""Points of one mean; means that are looked at: 1,024 points."""

EVERY = 8
"""Blocks until it is looked at again."""

STEADY = 1.05
"""A rate that changes by more explains by itself how the loss goes."""


class _Memory(Memory):
    """Of this line of branches, under this rate."""

    def __init__(self) -> None:
        self.losses: list[float] = []  # of this block, as they were logged
        self.means: deque[float] = deque(maxlen=BLOCKS)  # log scale
        self.noises: deque[float] = deque(maxlen=BLOCKS)  # of a point, as shares of these
        self.blocks = 0
        self.first: float | None = None  # the first of the means
        self.first_step = 0
        self.rate: float | None = None


def straightness(values: list[float]) -> float:
    """Share of the variance that a straight line explains (R²); 0 where there is none."""
    n = len(values)
    middle, mean = (n - 1) / 2, sum(values) / n
    xx = n * (n * n - 1) / 12
    xy = sum((i - middle) * value for i, value in enumerate(values))
    yy = sum((value - mean) ** 2 for value in values)
    return xy * xy / (xx * yy) if yy > 0.0 else 0.0


class TooSlow(Rule):
    """The loss falls along a straight line on a log scale, with hardly any noise, far from any floor: the rate may be too low.

    A loss that learns as fast as it can falls quickly at first and ever slower, and is noisy. Looked at are 32 means of 32 points: a
    straight line explains 99 % of them, both halves fall equally to a fifth, and so does the whole run since its start; the noise of
    a point is less than a quarter of the fall, the fall at least 1 %, the scheduled rate the same all the while, and the loss still above
    a third of where it began.

    It only says so, once, and claims nothing: some tasks are like that. What a higher rate would do can be tried from a snapshot. It
    begins anew when the rate changes. With ``kind="rl"`` or ``"gan"``, and for a loss that is not positive, it says nothing.

    In trials with a small network it was said at rates a hundred to ten thousand times too low, though not at all of them, and at none
    that suits it; of 291 published healthy logs it names none: ``tests/benchmarks/judgement.py``.
    """

    name: ClassVar[str] = "too_slow"
    title: ClassVar[str] = "rate may be too low"
    default_mode = "watch"
    signals = ("loss",)
    FIRES = slow.FIRES
    QUIET = slow.QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        straight: float = 0.99
        """R² of a straight line."""
        even: float = 1.2
        """Both halves, and the run before, fall at the same pace within such a factor."""
        fall: float = 0.01
        """Over the 1,024 points, log scale."""
        noise: float = 0.25
        """Of the fall; of a single point."""
        floor: float = 0.33
        """Of the first loss: below that it is no longer far from any floor."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._said = False

    def happened(self, happening: Happening, view: RunView) -> None:
        """With another rate the pace is another one."""
        event = happening.event
        if isinstance(event, KnobChanged) and event.knob == "lr":
            self.memory, self._said = _Memory(), False

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        loss = sample.values.get("loss")
        if loss is None or self._said:
            return None
        losses = self.memory.losses
        losses.append(loss)
        return self._block(losses, sample, view) if len(losses) >= BLOCK else None

    def _block(self, losses: list[float], sample: Sample, view: RunView) -> Finding | None:
        m = self.memory
        m.losses = []
        rate = sample.values.get("lr_scheduled", 1.0)
        if m.rate is None:
            m.rate = rate
        usable = view.kind == "supervised" and rate > 0.0 and m.rate / STEADY <= rate <= m.rate * STEADY
        total = sum(losses)
        if not usable or not (math.isfinite(total) and min(losses) > 0.0):
            self.memory = _Memory()
            return None
        mean = math.log(total / BLOCK)
        if m.first is None:
            m.first, m.first_step = mean, sample.step
        distances = sorted([abs(b - a) for a, b in pairwise(losses)])
        m.means.append(mean)
        m.noises.append(MIDDLE * distances[BLOCK // 2] * BLOCK / total)
        m.blocks += 1
        if m.blocks < BLOCKS or m.blocks % EVERY:
            return None
        return self._judged(m, m.first, sample)

    def _judged(self, m: _Memory, first: float, sample: Sample) -> Finding | None:
        p, means = self.params, list(m.means)
        half = BLOCKS // 2
        before, after = means[0] - means[half], means[half - 1] - means[-1]
        fall = means[0] - means[-1]
        since = (first - means[-1]) * (BLOCKS - 1) / (m.blocks - 1)  # as much of the whole fall as these points are of all
        noise = sorted(m.noises)[half]
        if fall < p.fall or before <= 0.0 or after <= 0.0 or noise > p.noise * fall or first - means[-1] > -math.log(p.floor):
            return None
        if max(before, after) > p.even * min(before, after) or max(fall, since) > p.even * min(fall, since):
            return None
        straight = straightness(means)
        if straight < p.straight:
            return None
        self._said = True
        points = m.blocks * BLOCK
        hundred = -math.expm1(-100 * fall / ((BLOCKS - 1) * BLOCK))
        return self.found(
            "info",
            f"loss has fallen evenly for {points:,} logged points, {hundred:.1%} in each hundred ({math.exp(first):.4g} → "
            f"{math.exp(means[-1]):.4g}), with hardly any noise: the rate may be too low",
            step=sample.step, branch=sample.branch, onset=m.first_step, key=f"{self.name}:{sample.branch}:{m.first_step}",
            evidence={"straightness": straight, "fall": fall, "noise": noise, "points": points},
        )  # fmt: skip
