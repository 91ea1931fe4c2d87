"""The gradient all but disappears on its way back: the first layers get next to none of it."""

import math
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.cases import inside
from sitter.rules.layers import GradientRule
from sitter.rules.view import RunView, Sample


class VanishingGradients(GradientRule):
    """The gradient norm of the first layers is less than a three-hundredth of that of the last ones, and falls from layer to layer: the
    first layers hardly learn.

    Compared are the medians of 5 samples of each layer after the first 64 steps, in the model's order: the median over the first third of
    the layers stands 300 times below that over the last third, and the fall is steady (it follows the layers' order to a correlation of
    0.8, on a log scale). So neither an embedding whose gradients are sparse nor one odd layer is taken for it, and gradients that become
    small everywhere, as they do where a loss has converged, are no matter of this rule. Layers without any gradient are said by
    ``dead_parameters``. AutoTrainer's bar is 1/1,000 from the first layer to the last; thirds lie nearer together. Healthy runs in our
    trials stayed below 25.

    An adaptive optimizer divides by the gradients' size, so that the run may learn all the same; then it is mostly noise that the first
    layers follow. It proposes nothing, since what helps is in your script: residual connections, normalisation, another activation than
    sigmoid or tanh, an initialisation that suits it (He, Xavier). It says when the first layers get their share again.
    """

    name: ClassVar[str] = "vanishing_gradients"
    title: ClassVar[str] = "gradients vanish"
    FIRES = inside.VANISHING_FIRES
    QUIET = inside.VANISHING_QUIET

    class Params(GradientRule.Params, frozen=True):
        """When."""

        factor: float = 300.0
        """So many times below the last layers stand the first."""

    def judge(self, sample: Sample, view: RunView) -> Finding | None:
        """The tower in which the first layers get least."""
        p, found = self.params, self.slopes()
        if not found:
            return None
        worst = max(found, key=lambda s: s.gain)
        if self.trouble:
            if worst.gain > math.log(p.factor / 3.0):
                return None
            return self.ends(f"the first layers get their share of the gradient again at step {sample.step:,}", sample)
        if worst.gain < math.log(p.factor) or worst.steady < p.steady:
            return None
        factor, each = math.exp(min(700.0, worst.gain)), math.exp(min(700.0, worst.each))
        return self.says(
            "warning",
            f"gradients vanish on the way back from {worst.last_layer} to {worst.first_layer}: {math.exp(worst.last):.2g} in the last "
            f"layers, {math.exp(worst.first):.2g} in the first, {each:.2g} × less with each of {worst.layers}",
            sample, onset=sample.step,
            evidence={"factor": factor, "each": each, "steady": worst.steady, "layers": worst.layers},
        )  # fmt: skip
