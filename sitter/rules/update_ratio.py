"""By how much of themselves the weights change in a step: far too much, or next to nothing."""

import math
from typing import Any, ClassVar

from sitter.model import Finding, Proposable
from sitter.rules.base import RuleParams
from sitter.rules.cases import inside
from sitter.rules.layers import UPDATE_RATIO, LayerRule, called
from sitter.rules.proposals import lower_rate
from sitter.rules.view import RunView, Sample

LOW_SAMPLES = 8
"""Of each layer, before too little is said."""

USUAL = "0.1 % is usual"
"""||Δw|| / ||w|| ≈ 1e-3, the rule of thumb of the CS231n notes (Karpathy)."""


def share(log: float) -> str:
    """``8 %``, ``0.0003 %``."""
    return f"{100 * math.exp(log):.1g} %" if log < math.log(0.1) else f"{100 * math.exp(log):,.0f} %"


class UpdateRatio(LayerRule):
    """The weights change by more than a twentieth of themselves in a step, lastingly, or by less than a millionth since the start.

    ||Δw|| / ||w|| of a layer over one step; a thousandth is usual (the rule of thumb of the CS231n notes). Healthy runs stand between 1e-5
    (fine-tuning) and some 1e-2 (Adam, weights drawn with a deviation of 0.02), so the bars lie beyond that. Too much: the
    median of 5 samples after the first 64 steps. Where that is true of half of the layers or more, the rate is too high, and a lower one is
    proposed; one layer alone is named. Too little: no sample of any layer has been above the bar since the start, over 1,000 steps and 8
    samples of each. So neither a warm-up, nor a schedule that ends at 0 is taken for it, since before or after that they were higher.

    It says when the ratio is below half of the bar again (or above the lower one).
    """

    name: ClassVar[str] = "update_ratio"
    title: ClassVar[str] = "weights change too much or too little"
    default_mode = "ask"
    default_limit = "2 per day"
    signals = (f"{UPDATE_RATIO}*",)
    prefix = UPDATE_RATIO
    FIRES = inside.RATIO_FIRES
    QUIET = inside.RATIO_QUIET

    class Params(RuleParams, frozen=True):
        """When."""

        high: float = 0.05
        """Of the weights, in a step."""
        samples: int = 5
        """Of each layer, whose median is taken."""
        low: float = 1e-6
        """No layer has ever changed by more."""
        low_steps: int = 1000
        """From the first sample on."""
        cut: float = 0.3
        """Proposed for the rate."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._too = ""
        self._highest = -math.inf  # of any layer, ever; with the next, no part of what a restore goes back to
        self._samples: dict[str, int] = {}
        self._first_step: int | None = None

    def knowledge(self) -> Any:
        """The layers, and the most that any has changed."""
        return {"order": self.order, "highest": self._highest} if self.order else None

    def know(self, told: Any) -> None:
        """The same."""
        self.order, self._highest = [str(name) for name in told["order"]], float(told["highest"])

    def took(self, name: str, log: float) -> None:
        """One value of a layer."""
        self._samples[name] = self._samples.get(name, 0) + 1
        self._highest = max(self._highest, log)

    def judge(self, sample: Sample, view: RunView) -> Finding | None:
        """Too much, then too little."""
        p = self.params
        self._first_step = sample.step if self._first_step is None else self._first_step
        levels = self.levels(p.samples)
        if self.trouble:
            return self._over(levels, sample)
        high = {name: level for name, level in levels.items() if level > math.log(p.high)}
        if high:
            return self._high(high, levels, sample, view)
        seen = min(self._samples.values())
        if self._highest < math.log(p.low) and seen >= LOW_SAMPLES and sample.step - self._first_step >= p.low_steps:
            self._too = "little"
            return self.says(
                "info",
                f"no layer changes by more than {share(self._highest)} of itself in a step, and none has since the start; {USUAL}: "
                "the rate may be far too low",
                sample, onset=self._first_step, evidence={"highest": math.exp(self._highest), "layers": len(levels)},
            )  # fmt: skip
        return None

    def _high(self, high: dict[str, float], levels: dict[str, float], sample: Sample, view: RunView) -> Finding | None:
        if 2 * len(levels) < len(self.memory.of):
            return None  # more is known when these had their turn
        self._too = "much"
        name = max(high, key=lambda name: high[name])
        evidence: dict[str, float | int | str | None] = {"layer": name, "ratio": math.exp(high[name]), "high": len(high), "of": len(levels)}
        text = f"{called(name)} changes by {share(high[name])} of itself in a step; {USUAL}"
        actions: list[Proposable] = []
        if 2 * len(high) >= len(levels) > 1:
            text = (
                f"{len(high)} of {len(levels)} layers change by more than {share(math.log(self.params.high))} of themselves in a step, "
                f"{called(name)} by {share(high[name])}; {USUAL}: the rate is too high"
            )
            actions = lower_rate(view, self.params.cut)
        return self.says("warning" if actions else "info", text, sample, onset=sample.step, evidence=evidence, actions=actions)

    def _over(self, levels: dict[str, float], sample: Sample) -> Finding | None:
        if self._too == "little":
            if self._highest < math.log(self.params.low):
                return None
            return self.ends(f"layers change by {share(self._highest)} of themselves in a step, at step {sample.step:,}", sample)
        most = max(levels.values(), default=-math.inf)
        if most > math.log(self.params.high / 2.0):
            return None
        return self.ends(f"no layer changes by more than {share(most)} of itself in a step, at step {sample.step:,}", sample)
