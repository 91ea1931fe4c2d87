"""Gradients that grow on their way back, or one layer whose gradient does while the others stay as they are."""

import math
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.cases import inside
from sitter.rules.layers import GradientRule, called
from sitter.rules.robust import MAD_TO_SIGMA, median, middle_distance
from sitter.rules.view import RunView, Sample

RECENT = 4
"""Samples of a layer that must all stand high."""

NEAR = math.log(2.0)
"""So near their usual level the other layers are at theirs; further down the whole is clipped. The layer itself has risen by more."""

SIGMAS = 3.0
"""Standard deviations of its own noise, by which it has risen too."""


class ExplodingGradients(GradientRule):
    """One layer's gradient norm stands 10 times above its usual level while the others stand at theirs, or the gradient grows a hundredfold
    on its way back through the layers. It says which layer.

    A layer is compared with its own median, and that with what the others do at the same time: four samples in a row, each 10 times as
    far above its usual as the middle layer is above its own. So a batch in which all gradients are large is no matter of this rule
    (``guard`` and ``spike`` look at those), and clipping the whole, which makes the others small, does not hide it. That must
    also be 3 of the layer's own standard deviations; 12 samples of each layer are needed.

    For growth the medians over the first and last third of the layers are compared, as in ``vanishing_gradients``, the other way round, and
    it is no more than worth knowing. BatchNorm without residual connections grows by about 1.2 with each layer by nature (Yang et al., "A
    mean field theory of batch normalization", 2019); healthy runs in our trials stayed below 6 in all.

    It proposes nothing: look at that layer's initialisation, at a normalisation with hardly any variance, at attention logits that grow,
    at a factor in the loss. It says when the layer is back, or has stayed up for so long that this is its usual level.
    """

    name: ClassVar[str] = "exploding_gradients"
    title: ClassVar[str] = "a layer's gradient explodes"
    keep = 24
    FIRES = inside.EXPLODING_FIRES
    QUIET = inside.EXPLODING_QUIET

    class Params(GradientRule.Params, frozen=True):
        """When."""

        factor: float = 10.0
        """Times its usual, over what the others are above theirs."""
        samples: int = 12
        """Of each layer."""
        growth: float = 100.0
        """From the last layers to the first."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._layer = ""
        self._usual = 0.0  # of that layer, when it was said; log scale

    def judge(self, sample: Sample, view: RunView) -> Finding | None:
        """One layer against the others; then the way through all."""
        p = self.params
        rises = self._rises()
        middle = median(sorted(rises.values())) if rises else 0.0
        if self.trouble:
            return self._back(rises.get(self._layer, middle) - middle, sample)
        if len(rises) >= p.layers:
            name = max(rises, key=lambda name: rises[name])
            if rises[name] >= NEAR and rises[name] - middle >= max(math.log(p.factor), self._by_chance(name)):
                return self._one(name, middle, sample)
        return self._growth(sample)

    def _rises(self) -> dict[str, float]:
        """How far the lowest of each layer's last samples stands above its median before them, on a log scale."""
        known = {name: logs for name, logs in self.memory.of.items() if len(logs) >= self.params.samples}
        return {name: min(logs[-RECENT:]) - median(sorted(logs[:-RECENT])) for name, logs in known.items()}

    def _by_chance(self, name: str) -> float:
        """How far a layer rises by its own noise."""
        before = sorted(self.memory.of[name][:-RECENT])
        return SIGMAS * MAD_TO_SIGMA * middle_distance(before, median(before))

    def _one(self, name: str, others: float, sample: Sample) -> Finding:
        logs = self.memory.of[name]
        usual, now = median(sorted(logs[:-RECENT])), min(logs[-RECENT:])
        self._layer, self._usual = name, usual
        factor, of_others = math.exp(min(700.0, now - usual)), math.exp(min(700.0, others))
        evidence: dict[str, float | int | str | None] = {"layer": name, "factor": factor, "others": of_others}
        rest = "the other layers at theirs" if abs(others) < NEAR else f"and those of the other layers to {of_others:.2g} × theirs"
        return self.says(
            "warning",
            f"the gradient of {called(name)} rose to {factor:.2g} × its usual level "
            f"({math.exp(usual):.2g} → {math.exp(now):.2g}), {rest}",
            sample, onset=sample.step, evidence=evidence,
        )  # fmt: skip

    def _growth(self, sample: Sample) -> Finding | None:
        p = self.params
        worst = min(self.slopes(), key=lambda s: s.gain, default=None)
        if worst is None or worst.gain > -math.log(p.growth) or worst.steady > -p.steady:
            return None
        self._layer = ""
        factor, each = math.exp(min(700.0, -worst.gain)), math.exp(min(700.0, -worst.each))
        return self.says(
            "info",
            f"gradients grow on the way back from {worst.last_layer} to {worst.first_layer}: {math.exp(worst.last):.2g} in the last "
            f"layers, {math.exp(worst.first):.2g} in the first, {each:.2g} × more with each of {worst.layers}",
            sample, onset=sample.step,
            evidence={"factor": factor, "each": each, "steady": worst.steady, "layers": worst.layers},
        )  # fmt: skip

    def _back(self, above: float, sample: Sample) -> Finding | None:
        p = self.params
        if not self._layer:
            if any(s.gain <= -math.log(p.growth / 3.0) for s in self.slopes()):
                return None
            return self.ends(f"gradients grow no more on their way back at step {sample.step:,}", sample)
        if above > math.log(p.factor / 3.0):
            return None
        newest = self.memory.of[self._layer][-1]
        what, now = f"the gradient of {called(self._layer)}", math.exp(newest)
        if newest - self._usual > math.log(p.factor / 3.0):
            text = f"{what} has stayed at {now:.2g}, which is taken for its usual level from step {sample.step:,} on"
            return self.ends(text, sample, recovered=False)
        return self.ends(f"{what} is back at {now:.2g} at step {sample.step:,}", sample)
