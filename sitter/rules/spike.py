"""The loss has jumped: seen and said, nothing done."""

import math
from collections import deque
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.cases.course import SPIKE_FIRES, SPIKE_QUIET
from sitter.rules.course import LEVEL_FROM, Grain, Level, Noise, times
from sitter.rules.memory import Memory
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample
from sitter_wire.events import Restored

OF_POINTS = 5
"""Points among which the high ones are counted."""

ORDINARY_POINTS = 3
"""Points in a row that are not high, after which an excursion is over."""

LEARN_AFTER = 20
"""Points of an excursion after which it is learned as any other level."""

NOISE_FROM, UNSURE = 10, 2.0
"""With fewer distances than that the noise is hardly known: then only such a factor is high."""

NOT_POSITIVE_POINTS = 40
"""Points for which nothing is judged once the loss was below zero: there the factor of a level means nothing."""


class _Memory(Memory):
    """What it remembers of the loss on this line of branches."""

    def __init__(self) -> None:
        self.level, self.noise, self.grain = Level(), Noise(smoothed=True), Grain()
        self.high: deque[bool] = deque(maxlen=OF_POINTS)
        self.first: float | None = None  # where the run began, log scale
        self.ordinary_step: int | None = None  # the last one that was not high
        self.held = 0  # points in a row that were high
        self.ordinary = 0  # points in a row that were not
        self.judge_from = 0  # points that must still pass


class _Open:
    """An excursion that was said."""

    def __init__(self, onset: int, before: float, rise: float) -> None:
        self.onset, self.before = onset, before
        self.said = self.most = rise


class Spike(TroubleRule):
    """The loss has left its usual level upwards, and has not come back at once.

    Its level is the median of the last 15 ordinary points, its noise is learned from the run: from how far neighbouring points lie
    apart, in the middle and in the tails, so that a loss that swings by nature is not called a spike. High is what stands a third
    above the level and more than 5.5 times the noise, on a log scale. One bad batch is no spike: it must have been high for
    100 steps, or in 3 of the last 5 points, or (at once, where the log is sparse) in one that is the only one for 100 steps. Much higher
    again is said again; so is that it healed by itself, or that it stayed.

    It never acts: most spikes heal. Going back is the guard's affair, when they are worse, and ``divergence``'s, when they do not heal.
    With ``kind="rl"`` or ``"gan"``, and for a loss below zero, it says nothing, since there the level of the loss means nothing.

    Tried on 358 published logs: see ``tests/benchmarks/judgement.py``.
    """

    name: ClassVar[str] = "spike"
    title: ClassVar[str] = "loss jumped"
    default_mode = "watch"
    signals = ("loss",)
    FIRES = SPIKE_FIRES
    QUIET = SPIKE_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        factor: float = 1.35
        """So many times above its level …"""
        z: float = 5.5
        """… and so many standard deviations of its noise, on a log scale, is high."""
        steps: int = 100
        """High for so long is no bad batch …"""
        points: int = 3
        """… nor is so many of the last 5 points."""
        ruin: float = 8.0
        """So many times above its level and above where the run began: 2 points are enough, whatever the tails."""
        again: float = 1.5
        """Said again when the excursion is so many times higher (log scale)."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._bar, self._ruin = math.log(self.params.factor), math.log(self.params.ruin)
        self._unsure = max(self._bar, math.log(UNSURE))
        self._open: _Open | None = None  # while there is trouble
        self._say: Finding | None = None

    def restored(self, event: Restored) -> None:
        """What was high has been left behind: said with the next point."""
        if self.trouble:
            self._say = self._over(event, "left behind by going back")

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        loss = sample.values.get("loss")
        if loss is None or view.kind in ("rl", "gan") or not math.isfinite(loss):
            return None
        queued, self._say = self._say, None
        m = self.memory
        if loss <= 0.0:
            if loss < 0.0:  # exactly zero is a batch that is known by heart
                m.judge_from = NOT_POSITIVE_POINTS
                m.level = Level()
            return queued
        x = math.log(loss)
        m.grain.push(loss)
        if m.first is None:
            m.first = x
        if m.judge_from > 0:
            m.judge_from -= 1
            m.level.push(x)
            m.noise.push(sample.step, x)
            return queued
        return self._judged(sample, x) or queued

    def _judged(self, sample: Sample, x: float) -> Finding | None:
        m, p = self.memory, self.params
        first = x if m.first is None else m.first
        early = len(m.level) < LEVEL_FROM
        before = first if early else m.level.centre
        rise, step = x - before, sample.step
        ruin = rise > self._ruin and x - first > 0.2 and (len(m.noise) < NOISE_FROM or rise > p.z * m.noise.middle)
        noise = 0.0
        high = ruin
        if not ruin and not early and rise > self._bar and m.grain.tells(sample.values["loss"], math.exp(before)):
            noise = m.noise.tails
            high = rise > p.z * noise and (len(m.noise) >= NOISE_FROM or rise > self._unsure)
        m.high.append(high)
        m.noise.push(step, x)
        if not high:
            m.ordinary_step, m.held = step, 0
            m.ordinary += 1
            m.level.push(x)
            if self.trouble and m.ordinary >= ORDINARY_POINTS:
                return self._ended(sample, x)
            return None
        m.ordinary, m.held = 0, m.held + 1
        if m.held > LEARN_AFTER:
            m.level.push(x)
        count = sum(m.high)
        lasts = step - (step if m.ordinary_step is None else m.ordinary_step)
        if not self.trouble:
            if count >= p.points or (ruin and count >= 2) or (lasts >= p.steps and not early):
                onset = step if m.held == 1 or m.ordinary_step is None else m.ordinary_step + 1
                self._open = _Open(onset, before, rise)
                return self._said(sample, rise, noise or m.noise.tails, "")
            return None
        known = self._open
        assert known is not None
        known.most = max(known.most, rise)
        if x - known.before > known.said * p.again and x - known.before - known.said > self._bar:
            rise = known.said = x - known.before
            return self._said(sample, rise, noise or m.noise.tails, ", and it rises")
        return None

    def _said(self, sample: Sample, rise: float, noise: float, more: str) -> Finding:
        known = self._open
        assert known is not None
        since = f" (since step {known.onset:,})" if known.onset != sample.step else ""
        return self.says(
            "warning", f"loss {times(rise)} × its usual level at step {sample.step:,}{since}{more}", sample, onset=known.onset,
            evidence={
                "value": sample.values["loss"], "usual": math.exp(known.before), "factor": math.exp(min(700.0, rise)), "z": rise / noise,
            },
        )  # fmt: skip

    def _ended(self, sample: Sample, x: float) -> Finding | None:
        known = self._open
        assert known is not None
        stands = x - known.before
        if stands > self._bar:
            return self._over(sample, f"stays at {times(stands)} × its earlier level: taken for usual from here on", recovered=False)
        words = f"is back at its usual level {sample.step - known.onset:,} steps later: healed by itself"
        return self._over(sample, words)

    def _over(self, at: Sample | Restored, words: str, *, recovered: bool = True) -> Finding | None:
        known, self._open = self._open, None
        assert known is not None
        subject = "the high loss was" if words.startswith("left") else "loss"
        return self.ends(
            f"{subject} {words}; it had risen to {times(known.most)} × at step {known.onset:,}", at, recovered=recovered,
            onset=known.onset, evidence={"factor": math.exp(min(700.0, known.most))},
        )  # fmt: skip
