"""The first steps: layers whose gradients lie worlds apart, weights that are turned over, a loss far above that of a guess."""

import math
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import Rule, RuleParams
from sitter.rules.cases import inside
from sitter.rules.layers import GRAD_NORM, SETTLED, UPDATE_RATIO, called, of_layers
from sitter.rules.memory import Memory
from sitter.rules.robust import median
from sitter.rules.view import RunView, Sample

FROM = 8
"""Steps after which a layer that began as zero, and those behind it, have a gradient of their own."""

FINDS_IN = math.log(10.0)
"""Where a gradient has grown tenfold since then, what lay behind a zero is still finding in (the blocks of a diffusion transformer)."""

LEAST_LAYERS = 3
"""Of fewer nothing is said."""


class _Memory(Memory):
    """Of the first steps."""

    def __init__(self) -> None:
        self.over = False
        self.loss: float | None = None  # the very first
        self.norms: dict[str, tuple[float, ...]] = {}  # log scale
        self.ratios: dict[str, tuple[float, ...]] = {}


class PoorInitialisation(Rule):
    """In the first steps the layers' gradient norms differ by more than 10,000 times, or all of them are next to nothing, or most layers
    change by more than a tenth of themselves in a step.

    Judged once, at step 64, by the median of each layer's samples up to it; of the gradients only those from step 8 on, when layers that
    begin as zero (LoRA, residual branches, heads) have found in, and none of a layer that still does: whose gradient grows tenfold from
    there on. Of gradients that far apart the small ones drown in noise, and no rate suits both ends: the weights were drawn too small or
    too wide for this depth and activation (He for ReLU, Xavier for tanh keep their variance from layer to layer). All below 1e-7 is
    SageMaker's bar for "vanishing". Weights that are turned over by their first steps have lost what they were drawn for: a warm-up, a
    lower rate or wider weights help. Healthy runs in our trials stayed below 80 times, and below 0.04 of themselves.

    Where ``classes`` says how many classes there are, a first loss of 1.5 times ln(classes) is said too: that of a model that guesses
    evenly is the logarithm, and all above it is a head that is drawn too wide (the steep fall that it makes at first is no learning).

    It speaks once, proposes nothing, and never speaks of a run whose first steps are not logged.
    """

    name: ClassVar[str] = "poor_initialisation"
    title: ClassVar[str] = "poor initialisation"
    default_mode = "watch"
    signals: tuple[str, ...] = (f"{GRAD_NORM}*", f"{UPDATE_RATIO}*")
    FIRES = inside.INITIAL_FIRES
    QUIET = inside.INITIAL_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        apart: float = 1e4
        """The largest norm of a layer over the smallest."""
        tiny: float = 1e-7
        """No layer's gradient norm is larger."""
        ratio: float = 0.1
        """Of themselves, by which the middle layer changes in a step."""
        classes: int = 0
        """Of a classifier, or the size of a vocabulary; 0: not known."""
        guess: float = 1.5
        """Times ln(classes) is far above a guess."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        if self.params.classes > 1:
            self.signals = (*self.signals, "loss")

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        m = self.memory
        if m.over:
            return None
        if sample.step <= SETTLED:
            self._take(m, sample)
        if sample.step < SETTLED - 1:  # steps may be counted from 0
            return None
        m.over = True
        said, evidence = self._judged(m)
        if not said:
            return None
        return self.found(
            "info", f"poor initialisation: {'; '.join(said)}", step=sample.step, branch=sample.branch, onset=0, evidence=evidence,
            key=f"{self.name}:{sample.branch}:0",
        )  # fmt: skip

    def _take(self, m: _Memory, sample: Sample) -> None:
        if m.loss is None and sample.step <= 1:
            m.loss = sample.values.get("loss")
        for kept, prefix, begins in ((m.norms, GRAD_NORM, FROM), (m.ratios, UPDATE_RATIO, 0)):
            for layer, value in of_layers(sample.values, prefix):
                if 0.0 < value < math.inf and sample.step >= begins:
                    kept[layer] = (*kept.get(layer, ()), math.log(value))

    def _judged(self, m: _Memory) -> tuple[list[str], dict[str, float | int | str | None]]:
        p = self.params
        said: list[str] = []
        evidence: dict[str, float | int | str | None] = {}
        norms = {name: median(sorted(logs)) for name, logs in m.norms.items() if logs[-1] - logs[0] < FINDS_IN}
        ratios = {name: median(sorted(logs)) for name, logs in m.ratios.items()}
        if len(norms) >= LEAST_LAYERS:
            low, high = min(norms, key=lambda name: norms[name]), max(norms, key=lambda name: norms[name])
            smallest, largest = math.exp(norms[low]), math.exp(norms[high])
            evidence |= {"smallest": smallest, "largest": largest}
            if largest < p.tiny:
                said.append(f"no layer's gradient norm is above {largest:.2g} in the first steps")
            elif norms[high] - norms[low] > math.log(p.apart):
                between = f"{smallest:.2g} ({called(low)}) and {largest:.2g} ({called(high)})"
                said.append(f"gradient norms lie between {between} in the first steps")
        if len(ratios) >= LEAST_LAYERS:
            middle = math.exp(median(sorted(ratios.values())))
            evidence["ratio"] = middle
            if middle > p.ratio:
                said.append(f"half of the layers change by {middle:.0%} of themselves and more in each of the first steps (0.1 % is usual)")
        if p.classes > 1 and m.loss is not None and m.loss > p.guess * math.log(p.classes):
            evidence |= {"loss": m.loss, "classes": p.classes}
            said.append(f"the first loss is {m.loss:.4g}, a guess among {p.classes:,} classes makes {math.log(p.classes):.4g}")
        return said, evidence
