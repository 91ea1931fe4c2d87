"""The loss stands where it stood at the first step: the model predicts nothing yet."""

import math
from itertools import pairwise
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.cases import start
from sitter.rules.memory import Memory
from sitter.rules.robust import median
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample

BLOCK = 16
"""Points whose median is looked at: work is done for every sixteenth only."""

WARMING = 1.02
"""A scheduled rate that has risen by more since the last block is still warming up: that block does not count."""

BLUR = 1.2533 / 1.1284 / math.sqrt(BLOCK)
"""Mean of the distances between neighbours × this = standard deviation of a block's median, were they normal."""

UNSURE, HIDES = 4.0, 0.05
"""So many of these the first level must be left by; where that is such a share of it, nothing can be said at all."""

SMALL = 30
"""Up to so many classes their logarithms lie so far apart that a loss fits one of them hardly by chance."""

CLEAR = 0.1
"""Of the distance to the next number's logarithm."""

KNOWN = (
    32, 37, 40, 47, 50, 64, 80, 81, 90, 91, 99, 100, 101, 102, 120, 150, 171, 196, 200, 256, 257, 365, 397, 400, 512, 555, 600, 700, 1000,
    1024, 8142, 10000, 10450, 14951, 20000, 21841, 28996, 30522, 32000, 32128, 50257, 50265, 50304, 50432, 51200, 64000, 65536,
    100256, 100277, 119547, 128000, 128256, 151643, 151936, 152064, 250002, 256000, 262144,
)  # fmt: skip
"""Sizes above that at which data sets and vocabularies are known to stand: pixels, CIFAR, ImageNet, BERT, Llama, GPT-2, Qwen, Gemma…"""


def classes(loss: float, within: float) -> int | None:
    """How many classes a loss is the logarithm of, to such a share of it, and clear of their neighbours'; None where none is known."""
    if not 0.6 < loss < 13.0:
        return None
    count = round(math.exp(loss))
    if count > SMALL:
        count = min(KNOWN, key=lambda known: abs(math.log(known) - loss))
    near = within * loss if count > SMALL else min(within * loss, CLEAR / count)
    return count if abs(math.log(count) - loss) <= near else None


class _Memory(Memory):
    """Of this line of branches."""

    def __init__(self) -> None:
        self.over = False  # it has left its first level: nothing is done any more
        self.block: list[float] = []
        self.rate = self.rate_before = 0.0
        self.initial: float | None = None  # the very first loss
        self.first: float | None = None  # median of the first block
        self.highest = 0.0  # of the blocks' medians
        self.sum, self.blocks = 0.0, 0  # of them
        self.noise, self.distances = 0.0, 0  # between neighbours, summed
        self.points = 0  # since the warm-up
        self.onset = 0


class StuckAtStart(TroubleRule):
    """The loss has not left the level at which the run began: nothing is learned yet.

    Looked at are medians of 16 points. None of them stands 1 % lower than the first, or lower than its noise allows, for 400 logged
    points after the warm-up (blocks in which the scheduled rate still rises do not count). Where that level, or the very first loss, is
    the logarithm of a number of classes, to 0.2 %, it is named: that is the loss of a guess. The cause is mostly a rate far too high or
    too low, labels that do not belong to the inputs, or gradients that do not flow. SageMaker's "not decreasing" waits for ten steps,
    and so calls every warm-up stuck.

    It proposes nothing, since it is not known which it is. It says when the loss begins to fall, and never speaks again after that. With
    ``kind="rl"`` or ``"gan"``, and for a loss that is not positive, it says nothing. Of 291 published healthy logs it names none, of 95
    troubled ones the three that never learn: ``tests/benchmarks/judgement.py``.
    """

    name: ClassVar[str] = "stuck_at_start"
    title: ClassVar[str] = "nothing learned yet"
    default_mode = "watch"
    signals = ("loss",)
    FIRES = start.STUCK_FIRES
    QUIET = start.STUCK_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        points: int = 400
        """Logged points after the warm-up."""
        within: float = 0.01
        """Of the first level: further down it has begun to learn."""
        above: float = 1.1
        """Times the first level: further up it rises, which others say."""
        fits: float = 0.002
        """Of the loss: so near the logarithm of a number of classes it is named."""

    def rate_changed(self, step: int) -> None:
        """It has its time again."""
        self.memory.points = 0

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        m = self.memory
        if m.over:
            return None
        loss = sample.values.get("loss")
        if loss is None:
            return None
        block = m.block
        block.append(loss)
        if len(block) < BLOCK:
            return None
        m.block = []
        if view.kind != "supervised" or not all(0.0 < loss < math.inf for loss in block):
            m.over = True
            return self.ends(f"loss cannot be judged any more at step {sample.step:,}", sample, recovered=False)
        return self._judged(block, m, sample)

    def _judged(self, block: list[float], m: _Memory, sample: Sample) -> Finding | None:
        p, now = self.params, median(sorted(block))
        if m.initial is None or m.first is None:
            m.initial, m.first, m.onset = block[0], now, sample.step
        m.noise += sum(abs(b - a) for a, b in pairwise(block))
        m.distances += BLOCK - 1
        m.sum += now
        m.blocks += 1
        m.highest = max(m.highest, now)
        unsure = UNSURE * BLUR * m.noise / m.distances
        if now < m.first - max(p.within * m.first, unsure) or unsure > HIDES * m.first:
            m.over = True
            return self.ends(f"loss has begun to fall at step {sample.step:,}", sample)
        rate, before = sample.values.get("lr_scheduled"), m.rate
        if rate is not None:
            m.rate = rate
            if rate > WARMING * before:
                return None
        m.points += BLOCK
        if self.trouble or m.points < p.points:
            return None
        if m.highest > m.first * p.above:  # it rises: no matter of this rule
            m.over = True
            return None
        level = m.sum / m.blocks
        fits = classes(level, p.fits)
        text = f"loss stands at {level:.4g}"
        if fits is not None:
            text += f" = ln {fits:,}: it predicts nothing yet"
        elif (fits := classes(m.initial, p.fits)) is not None:
            text += f", no lower than where it began ({m.initial:.4g} = ln {fits:,}): it predicts nothing yet"
        else:
            text += f", no lower than where it began ({m.initial:.4g})"
        return self.says(
            "info", f"{text}, after {m.points:,} logged points", sample, onset=m.onset,
            evidence={"loss": now, "level": level, "first": m.initial, "classes": fits, "points": m.points},
        )  # fmt: skip
