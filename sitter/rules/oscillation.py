"""The loss swings up and down, regularly and ever wider: at the edge of what the rate allows."""

import math
from collections import deque
from itertools import pairwise
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.cases import oscillation
from sitter.rules.course import MIDDLE, TAIL
from sitter.rules.memory import Memory
from sitter.rules.proposals import lower_rate
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample
from sitter_wire.events import Restored

FOLLOWS = 1 / 32
"""Of each point the level takes on so much: slower swings than some hundred points are followed, and so not seen."""

BLOCK = 64
"""Points that are looked at together."""

EVERY = 2
"""Blocks, from one of which the noise is learned."""

NOISES, NEWEST, FROM = 32, 2, 4
"""Such blocks that are remembered, those of them that may be troubled already, and how many there must be."""

TURNS = 16
"""Half swings that are compared."""

NORMAL = 1.2533
"""Mean of the distances from the level × this = standard deviation, were they normal."""

LEAST = 0.005
"""Of the noise, log scale: full batches have none."""

SHORT = 6
"""Points: half swings shorter than that must be all of one length, give or take a point, since noise alone turns as often as that."""

CALM = 4
"""Half swings that must have failed to come before it is over."""


class _Memory(Memory):
    """Level, noise and the last turns of the loss on this line of branches, log scale."""

    def __init__(self) -> None:
        self.losses: list[float] = []  # of this block, as they were logged
        self.step = 0  # of the last point before it
        self.level: float | None = None  # log scale, as all that follows
        self.noises: deque[float] = deque(maxlen=NOISES)
        self.bar = math.inf  # further from the level is a swing
        self.points = 0
        self.above: bool | None = None
        self.turns: deque[tuple[int, int]] = deque(maxlen=TURNS)  # point and step at which it came beyond the bar on the other side
        self.widths: deque[float] = deque(maxlen=TURNS)  # how far it went there


class Oscillation(TroubleRule):
    """The loss swings up and down around its level, far beyond its noise, at regular intervals, and ever wider.

    Sixteen half swings are looked at: each goes beyond 4 standard deviations of what the run has swung and jumped by before, none takes
    more than twice or less than half as long as their median, and the newer ones are at least as wide as the older, and at least 15 %.
    Swings that have always been there are the data's; such that take more than some hundred points are a cyclic rate's. With
    ``kind="rl"`` or ``"gan"``, and for a loss that is not positive, it says nothing.

    It proposes half the rate, and asks first; it says when the swings are over. On 291 published healthy logs it says nothing:
    ``tests/benchmarks/judgement.py``.
    """

    name: ClassVar[str] = "oscillation"
    title: ClassVar[str] = "loss swings"
    default_mode = "ask"
    default_limit: ClassVar[str] = "2 per day"
    signals = ("loss",)
    FIRES = oscillation.FIRES
    QUIET = oscillation.QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When, and what is proposed."""

        z: float = 4.0
        """So many standard deviations of its noise from its level is a swing."""
        factor: float = 1.15
        """The newer half swings go to so many times the level."""
        even: float = 2.0
        """No half swing is so many times longer or shorter than their median."""
        cut: float = 0.5
        """What the rate is multiplied by."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._wide = math.log(self.params.factor)
        self._quiet = 0  # points without a turn after which it is over

    def restored(self, event: Restored) -> None:
        """It is looked at anew."""
        self._forget()

    def rate_changed(self, step: int) -> None:
        """It is looked at anew."""
        self._forget()

    def _forget(self) -> None:
        """The turns so far."""
        m = self.memory
        m.turns.clear()
        m.widths.clear()
        m.above = None

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        loss = sample.values.get("loss")
        if loss is None:
            return None
        m = self.memory
        losses = m.losses
        losses.append(loss)
        return self._block(m, sample, view) if len(losses) >= BLOCK else None

    def _block(self, m: _Memory, sample: Sample, view: RunView) -> Finding | None:
        """The work of 64 points at once, which is much cheaper than 64 times that of one."""
        if view.kind != "supervised" or not (math.isfinite(sum(m.losses)) and min(m.losses) > 0.0):
            self.memory = _Memory()
            return self.ends(f"loss cannot be judged any more at step {sample.step:,}", sample, recovered=False)
        values, m.losses = list(map(math.log, m.losses)), []
        began, m.step = m.step, sample.step
        level, bar, away, found = values[0] if m.level is None else m.level, m.bar, 0.0, None
        for i, x in enumerate(values):
            off = x - level
            level += FOLLOWS * off
            width = abs(off)
            away += width
            if width <= bar:
                continue
            above = off > 0.0
            if above is m.above:
                m.widths[-1] = max(m.widths[-1], width)
                continue
            m.above = above
            at, step = m.points + i, began + (sample.step - began) * (i + 1) // BLOCK
            if len(m.turns) == TURNS and not self.trouble:
                found = self._turned(m, at, step, sample, view)
            m.turns.append((at, step))
            m.widths.append(width)
        m.level = level
        m.points += BLOCK
        if m.points % (EVERY * BLOCK) == 0:
            self._learn(m, values, away / BLOCK)
        if self.trouble and found is None and m.points - (m.turns[-1][0] if m.turns else 0) > self._quiet:
            self._forget()
            return self.ends(f"loss swings no more at step {sample.step:,}", sample)
        return found

    def _learn(self, m: _Memory, values: list[float], away: float) -> None:
        """The bar, by the quieter blocks before the newest. What swings in it by nature, quickly or slowly, is noise."""
        distances = sorted([abs(b - a) for a, b in pairwise(values)])
        m.noises.append(max(MIDDLE * distances[BLOCK // 2], TAIL * distances[9 * BLOCK // 10], NORMAL * away, LEAST))
        if len(m.noises) >= FROM:
            before = sorted(list(m.noises)[:-NEWEST])
            m.bar = self.params.z * before[len(before) // 4]

    def _turned(self, m: _Memory, at: int, step: int, sample: Sample, view: RunView) -> Finding | None:
        """The last eight half swings are complete."""
        p, widths, turns = self.params, list(m.widths), list(m.turns)
        half = TURNS // 2
        older, newer = sum(widths[:half]) / half, sum(widths[half:]) / half
        if newer < self._wide or newer < older:
            return None
        ends = [then for then, _ in turns] + [at]
        lengths = sorted(b - a for a, b in pairwise(ends))
        usual = lengths[half]
        if lengths[0] * p.even < usual or lengths[-1] > p.even * usual or (usual < SHORT and lengths[-1] - lengths[0] > 1):
            return None
        onset = turns[0][1]
        self._quiet = max(BLOCK, CALM * usual)
        points = round(2 * (ends[-1] - ends[0]) / TURNS)
        steps = round(2 * (step - onset) / TURNS)
        every = f"{points} points" if steps == points else f"{points} points ({steps:,} steps)"
        text = (
            f"loss swings by {math.expm1(newer):.0%} around its level every {every}, {newer * p.z / m.bar:.0f} × as wide as its noise was"
        )
        return self.says(
            "info", text, sample, onset=onset, actions=lower_rate(view, p.cut),
            evidence={"width": newer, "before": older, "z": newer * p.z / m.bar, "points": points, "steps": steps},
        )  # fmt: skip
