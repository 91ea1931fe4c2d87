"""The policy moves away much faster than it has done so far."""

from typing import ClassVar

from sitter.model import Finding
from sitter.rules import rl
from sitter.rules.base import RuleParams
from sitter.rules.cases.rl import KL_FIRES, KL_QUIET
from sitter.rules.memory import Memory
from sitter.rules.proposals import lower_rate
from sitter.rules.robust import median
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample
from sitter_wire.events import Restored

BLOCK = 10
"""Points of one median."""

FROM = 8
"""Such medians that must have been before."""

NEWEST = 2
"""Of them that may be part of it already, and so many in a row must be."""

MANY = 256
"""Medians that are remembered."""


class _Memory(Memory):
    """Of this line of branches."""

    def __init__(self) -> None:
        self.block: list[float] = []
        self.medians: list[float] = []
        self.highest = 0.0  # of all but the newest
        self.begun = self.onset = 0  # step at which this block began, and the first that was high
        self.in_a_row = 0


class KlRunaway(TroubleRule):
    """The Kullback-Leibler divergence of the policy runs away: an update takes it further, or the reference is left faster, than ever.

    Medians of 10 logged points are compared: the newest is 5 times the usual one and 3 times the highest there has been before (the two
    before it aside), twice in a row. A divergence from a reference that grows all the time as it should does not do that. Known are ``kl``,
    ``approx_kl``, ``objective/kl`` and their like; what is not positive is not judged.

    It proposes half the rate, and asks first. It says when the divergence is back at twice its usual level. There are no published logs
    of this kind among those the rules are measured on.
    """

    name: ClassVar[str] = "kl_runaway"
    title: ClassVar[str] = "policy runs away"
    default_mode = "ask"
    default_limit: ClassVar[str] = "2 per day"
    signals = rl.KL
    FIRES = KL_FIRES
    QUIET = KL_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When, and what is proposed."""

        usual: float = 5.0
        """Times its usual level."""
        highest: float = 3.0
        """Times the highest it has been."""
        back: float = 2.0
        """Times its usual level: it is over."""
        cut: float = 0.5
        """What the rate is multiplied by."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._usual = 0.0  # when it was said

    def restored(self, event: Restored) -> None:
        """The block would be of both branches."""
        self.memory.block = []

    def rate_changed(self, step: int) -> None:
        """The block would be of both rates."""
        self.memory.block = []

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        found = rl.first_of(sample.values, rl.KL)
        if found is None:
            return None
        (name, kl), m, p = found, self.memory, self.params
        if not m.block:
            m.begun = sample.step
        m.block.append(kl)
        if len(m.block) < BLOCK:
            return None
        now, m.block = median(sorted(m.block)), []
        if self.trouble:
            back = now < p.back * self._usual
            return self.ends(f"{name} is back at {now:.3g} at step {sample.step:,}", sample) if back else None
        before = m.medians[:-NEWEST]
        m.medians.append(now)
        if len(m.medians) > MANY:
            del m.medians[0]
        if len(before) < FROM:
            return None
        m.highest = max(m.highest, *before)
        usual = median(sorted(before))
        if usual <= 0.0 or now < p.usual * usual or now < p.highest * m.highest:
            m.in_a_row = 0
            return None
        m.in_a_row += 1
        if m.in_a_row == 1:
            m.onset = m.begun
        if m.in_a_row < NEWEST:
            return None
        self._usual = usual
        text = f"{name} {now:.3g} since step {m.onset:,}: {now / usual:.2g} × its usual level, {now / m.highest:.2g} × the highest before"
        return self.says(
            "info", text, sample, onset=m.onset, actions=lower_rate(view, p.cut),
            evidence={"kl": now, "usual": usual, "highest": m.highest},
        )  # fmt: skip
