"""The loss drifts away from its best and does not come back: slow, without a spike."""

import copy
import math
from typing import ClassVar

from sitter.model import Finding, Proposable
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.course import FromBest, Noise
from sitter.rules.course_cases import DIVERGENCE_FIRES, DIVERGENCE_QUIET, times
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Rollback
from sitter_wire.events import Restored
from sitter_wire.records import Happening

QUICK, SLOW = 3, 20
"""Points whose median is taken: of evaluations, and of a loss that is logged about as often; of a loss that is logged every few steps."""

OFTEN = 3
"""Losses between two evaluations, from which on the loss is logged more often than they are made."""

NEAR = 0.05
"""On a log scale: so near its best it was still well."""

RESTING_POINTS = 40
"""Points for which nothing is judged once a value was not positive."""


class _Memory:
    """What it remembers of both losses on this line of branches."""

    def __init__(self) -> None:
        self.quick, self.slow, self.val = FromBest(QUICK), FromBest(SLOW), FromBest(QUICK)
        self.noise, self.val_noise = Noise(), Noise()
        self.since_val = 0
        self.well = 0  # last step at which it stood near its best
        self.resting = 0

    def __deepcopy__(self, memo: dict[int, object]) -> "_Memory":
        new = copy.copy(self)
        for name in ("quick", "slow", "val", "noise", "val_noise"):
            setattr(new, name, copy.deepcopy(getattr(self, name), memo))
        return new


class Divergence(Rule):
    """The loss has risen from its best and stays up: training and validation loss both, or the training loss alone and by more.

    Two witnesses are worth more than one. Where both are logged, both medians of the last 3 points (of the last 20, for a training loss
    that is logged more often) must stand 1.2 times above the lowest there were; alone, the training loss must stand 1.5 times above it
    by the median of its last 20 points. A validation loss that rises alone is no divergence, see ``overfit``. On 291 published healthy
    logs the first never came above 1.12, the second never above 1.34: ``tests/benchmarks/judgement.py``.

    It proposes to go back to before the rise began and to go on with a lower rate, and asks first: a loss also rises because the data
    became harder, and only you know. It says when the loss is back by itself. With ``kind="rl"`` or ``"gan"``, and for a loss below
    zero, it says nothing.
    """

    name: ClassVar[str] = "divergence"
    title: ClassVar[str] = "loss drifts away"
    default_mode = "ask"
    default_limit: ClassVar[str] = "2 per day"
    signals = ("loss", "val_loss")
    FIRES = DIVERGENCE_FIRES
    QUIET = DIVERGENCE_QUIET

    class Params(RuleParams, frozen=True):
        """When, and what is proposed."""

        both: float = 1.2
        """Training and validation loss stand so many times above their best."""
        alone: float = 1.5
        """The training loss stands so many times above its best."""
        z_both: float = 4.5
        """Both must also stand so many standard deviations of such a median above it …"""
        z_alone: float = 8.0
        """… or the one so many."""
        again: float = 1.5
        """Said again when it stands so many times higher than when it was said."""
        cut: float = 0.5
        """What the rate is multiplied by."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        p = self.params
        self._both, self._alone, self._again = math.log(p.both), math.log(p.alone), math.log(p.again)
        self.memory: _Memory = _Memory()
        self._key = ""  # of the rise that was said
        self._said = 0.0
        self._proposed = False

    def fresh(self) -> _Memory:
        """Nothing seen."""
        return _Memory()

    def happened(self, happening: Happening, view: RunView) -> None:
        """What had risen was left behind."""
        if isinstance(happening.event, Restored):
            self._key = ""

    def refused(self, view: RunView) -> None:
        """It may be proposed again when it is worse."""
        self._proposed = False

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        loss, val = sample.values.get("loss"), sample.values.get("val_loss")
        if view.kind in ("rl", "gan"):
            return None
        m = self.memory
        if (loss is not None and loss <= 0.0) or (val is not None and val <= 0.0):
            m.resting = RESTING_POINTS
            return None
        if m.resting:
            m.resting -= 1
            return None
        if loss is not None and math.isfinite(loss):
            x = math.log(loss)
            m.noise.push(sample.step, x)
            m.quick.push(x)
            m.slow.push(x)
            m.since_val += 1
        rise = m.slow.rise
        alone, risen = True, rise is not None and rise > self._alone and rise > self.params.z_alone * m.slow.blur * m.noise.middle
        if val is not None and math.isfinite(val):
            beside, m.since_val = (m.slow if m.since_val > OFTEN else m.quick), 0
            y = math.log(val)
            m.val_noise.push(sample.step, y)
            m.val.push(y)
            if m.val.rise is not None and beside.rise is not None:
                both, z = min(m.val.rise, beside.rise), self.params.z_both
                clear = m.val.rise > z * m.val.blur * m.val_noise.middle and beside.rise > z * beside.blur * m.noise.middle
                if (both > self._both and clear and not risen) or rise is None:
                    rise, alone, risen = both, False, both > self._both and clear
        if rise is None:
            return None
        if rise < NEAR:
            m.well = sample.step
        if risen:
            return self._risen(sample, view, rise, alone=alone)
        if self._key and rise < 0.5 * self._both:
            key, self._key, self._proposed = self._key, "", False
            text = f"loss is back near its best at step {sample.step:,} by itself"
            return self.found("info", text, step=sample.step, branch=sample.branch, key=key, evidence={RECOVERED: 1})
        return None

    def _risen(self, sample: Sample, view: RunView, rise: float, *, alone: bool) -> Finding | None:
        m = self.memory
        if self._key and rise < self._said + self._again:
            return None
        if not self._key:
            self._key, self._proposed = f"{self.name}:{sample.branch}:{m.well}", False
        self._said = rise
        which = "loss" if alone else "training and validation loss"
        text = f"{which} {times(rise)} × the best {'it has' if alone else 'they have'} been, rising since step {m.well:,}"
        actions: list[Proposable] = []
        if not self._proposed and not view.late:
            self._proposed = True
            scale = {"lr": float(self.params.cut)} if "lr" in view.scales else {}
            actions.append(Rollback(before=m.well, also_scale=scale, why=text))
        return self.found(
            "warning", text, step=sample.step, branch=sample.branch, onset=m.well, actions=actions, key=self._key,
            evidence={"factor": math.exp(min(700.0, rise)), "witnesses": 1 if alone else 2},
        )  # fmt: skip
