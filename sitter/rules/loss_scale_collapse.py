"""Mixed precision: the loss scale is halved again and again, since gradients overflow whatever it is."""

import math
from collections import deque
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.cases import inside
from sitter.rules.memory import Memory
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample

BACK = 4.0
"""Times its lowest it has risen: one doubling is tried every so many steps whatever comes of it."""


class _Memory(Memory):
    """Of this line of branches."""

    def __init__(self) -> None:
        self.scale: float | None = None
        self.changed = 0  # step of the newest change
        self.searching = True  # for the level to work at, from the one that it was given
        self.changes: deque[tuple[int, float]] = deque()  # step, doublings (negative: halvings)
        self.lowest = math.inf  # since it collapsed


class LossScaleCollapse(TroubleRule):
    """The loss scale of mixed precision falls and falls: gradients overflow at every scale, and each such step is skipped.

    A gradient scaler begins high (65,536) and halves its scale at every overflow until it has found the level to work at; then it doubles
    it every 2,000 steps, and mostly takes that back a few steps later. Said is when the scale has been halved 8 times more than it was
    doubled within 2,000 steps, once the search is over (20 steps without a halving), or when it has come down to 1, at any time: then even
    gradients that are not scaled overflow, or are not finite for a reason of their own. The 2,000 steps are the ``growth_interval`` of
    torch's ``GradScaler``, and 1 is the ``min_loss_scale`` of DeepSpeed.

    It proposes nothing, since what helps is in your script: bfloat16 where the GPU has it, a lower rate, clipping (after ``unscale_``), or
    the operation that overflows done in float32. Where the loss itself is no longer finite, the guard says so. It says when the scale
    has risen to 4 times its lowest. A scaler that is switched off (a scale of 1 from the first step on) is nothing to speak of.
    """

    name: ClassVar[str] = "loss_scale_collapse"
    title: ClassVar[str] = "loss scale collapses"
    default_mode = "watch"
    signals = ("loss_scale",)
    FIRES = inside.SCALE_FIRES
    QUIET = inside.SCALE_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        halvings: int = 8
        """More than doublings."""
        steps: int = 2000
        """Within so many."""
        found: int = 20
        """Steps without a halving, and the search at the start is over."""
        least: float = 1.0
        """Come down to this the scale has collapsed in any case."""

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        m, p, scale = self.memory, self.params, sample.values["loss_scale"]
        before = m.scale
        if m.searching and sample.step - m.changed >= p.found and (scale == before or m.changes):  # else it may have been searching unseen
            m.searching = False
            m.changes.clear()
        if scale == before:
            return None
        if not 0.0 < scale < math.inf:
            return None
        m.scale, m.changed = scale, sample.step
        if before is None:
            return None
        doublings, changes = math.log2(scale / before), m.changes
        changes.append((sample.step, doublings))
        while changes[0][0] < sample.step and changes[0][0] <= sample.step - p.steps:
            changes.popleft()
        m.lowest = min(m.lowest, scale)
        if doublings > 0.0:
            return self._rises(m, sample)
        halvings = -sum(change for _, change in changes)
        if self.trouble or not (scale <= p.least or (not m.searching and halvings >= p.halvings)):
            return None
        began, m.lowest = changes[0][0], scale
        over = sample.step - began
        return self.says(
            "warning",
            f"loss scale fell to {scale:,.5g}, by {round(halvings)} halvings within {over:,} steps: gradients overflow again and again, "
            "and each such step is skipped",
            sample, onset=began, evidence={"loss_scale": scale, "halvings": halvings, "steps": over},
        )  # fmt: skip

    def _rises(self, m: _Memory, sample: Sample) -> Finding | None:
        if not self.trouble or m.lowest * BACK > sample.values["loss_scale"]:
            return None
        m.changes.clear()  # that was one trouble; another begins from here
        return self.ends(f"loss scale rises again: {m.lowest:,.5g} → {m.scale:,.5g} at step {sample.step:,}", sample)
