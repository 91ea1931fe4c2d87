"""The loss rises right after the start, at a rate that was there in full from the first step."""

import math
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.cases import start
from sitter.rules.course import times
from sitter.rules.memory import Memory
from sitter.rules.robust import median
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample

FIRST = 3
"""Points whose median is where the run began."""

WINDOW = 5
"""Points whose median is looked at after that."""


class _Memory(Memory):
    """Of this line of branches."""

    def __init__(self) -> None:
        self.over = False  # nothing is done any more
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rates: tuple[float, float] | None = None  # the first and the newest
        self.began: float | None = None  # where the loss stood first
        self.norm: float | None = None  # and the gradient norm
        self.most = 0.0  # of the loss, over where it began, log scale
        self.most_norm = 0.0


class WarmupMissing(TroubleRule):
    """The loss rises within the first 100 steps to 1.3 times where it began, and the rate was there in full from the first step.

    An adaptive optimizer knows next to nothing of the gradients' scale in its first steps, and goes too far in them: that is what a
    warm-up is for. Compared are the median of the first 3 losses and medians of 5 after that; in full is a scheduled rate that is at
    most 1.5 times as high at the end of these steps as in the first. Where the gradient norm is known, how it rose is said too. Only a
    run whose first steps are logged one by one (or nearly so) is judged, and none that has no ``lr_scheduled``.

    It proposes nothing, for what has happened has happened: begin again with some hundred steps of warm-up, or a lower rate, if the run
    does not recover. It says when the loss is lower than at the start. With ``kind="rl"`` or ``"gan"`` it says nothing.
    """

    name: ClassVar[str] = "warmup_missing"
    title: ClassVar[str] = "no warm-up"
    default_mode = "watch"
    signals = ("loss",)
    FIRES = start.WARMUP_FIRES
    QUIET = start.WARMUP_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        steps: int = 100
        """The first, which are looked at."""
        points: int = 20
        """Of these so many must be logged."""
        factor: float = 1.3
        """So many times where it began the loss has risen."""
        full: float = 1.5
        """A rate that rises by more is warmed up."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._high = math.log(self.params.factor)

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        m = self.memory
        if m.over:
            return None
        values = sample.values
        loss, rate = values.get("loss"), values.get("lr_scheduled")
        if loss is None:
            return None
        if not 0.0 < loss < math.inf or view.kind != "supervised":
            m.over = True
            return None
        m.losses.append(math.log(loss))
        if self.trouble:
            return self._back(sample, m)
        if rate is not None:
            m.rates = (rate if m.rates is None else m.rates[0], rate)
        norm = values.get("grad_norm")
        if norm is not None and 0.0 < norm < math.inf:
            m.norms.append(math.log(norm))
        self._follow(m)
        if sample.step < self.params.steps:
            return None
        m.over = True
        return self._judged(sample, m)

    def _follow(self, m: _Memory) -> None:
        """The highest medians so far."""
        if len(m.losses) < FIRST:
            return
        if m.began is None:
            m.began = median(sorted(m.losses[:FIRST]))
        if m.norm is None and len(m.norms) >= FIRST:
            m.norm = median(sorted(m.norms[:FIRST]))
        if len(m.losses) >= WINDOW:
            m.most = max(m.most, median(sorted(m.losses[-WINDOW:])) - m.began)
        if m.norm is not None and len(m.norms) >= WINDOW:
            m.most_norm = max(m.most_norm, median(sorted(m.norms[-WINDOW:])) - m.norm)

    def _judged(self, sample: Sample, m: _Memory) -> Finding | None:
        p = self.params
        if len(m.losses) < p.points or m.rates is None or m.began is None or m.most < self._high:
            return None
        first, newest = m.rates
        if first <= 0.0 or newest > p.full * first:
            return None
        m.over = False
        norm = f", the gradient norm to {times(m.most_norm)} ×" if m.most_norm > self._high else ""
        text = (
            f"loss rose to {times(m.most)} × where it began{norm} within the first {sample.step:,} steps, at a rate of {first:.3g} from "
            "the first step on: no warm-up"
        )
        return self.says(
            "info", text, sample, onset=0,
            evidence={"factor": math.exp(min(700.0, m.most)), "grad_norm_factor": math.exp(min(700.0, m.most_norm)), "rate": first},
        )  # fmt: skip

    def _back(self, sample: Sample, m: _Memory) -> Finding | None:
        del m.losses[:-WINDOW]
        if m.began is None or median(sorted(m.losses)) > m.began:
            return None
        m.over = True
        return self.ends(f"loss is lower than at the start at step {sample.step:,}", sample)
