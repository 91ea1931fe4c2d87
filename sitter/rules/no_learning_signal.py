"""All that is tried earns the same: there is nothing to learn from."""

import copy
from collections import deque
from typing import ClassVar

from sitter.model import Finding
from sitter.rules import rl
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.robust import median
from sitter.rules.view import RunView, Sample
from sitter_wire.events import Restored
from sitter_wire.records import Happening

TINY = 1e-8
"""Is nothing, whatever was usual; libraries divide by the deviation plus as much."""

AGAIN = 4
"""Of them may be more than nothing again without its being over."""


class _Memory:
    """Of this line of branches."""

    def __init__(self, points: int) -> None:
        self.window: deque[float] = deque(maxlen=points)
        self.usual = 0.0  # the highest median so far
        self.last = 0  # step at which there was something

    def __deepcopy__(self, memo: dict[int, object]) -> "_Memory":
        new = copy.copy(self)
        new.window = self.window.copy()
        return new


class NoLearningSignal(Rule):
    """Rewards or advantages do not differ within the batch any more: the policy's gradient is nothing, however high the reward.

    Their standard deviation has been zero, or a thousandth of its usual level, at 20 logged points in a row: the task is solved, far too
    hard, or the reward is broken. Known are ``reward_std``, ``rewards/std``, ``advantage_std`` and their like.

    It proposes nothing, since no rate helps here: look at what is rewarded, and at the tasks. It says when they differ again. There are
    no published logs of this kind among those the rules are measured on.
    """

    name: ClassVar[str] = "no_learning_signal"
    title: ClassVar[str] = "nothing to learn from"
    default_mode = "watch"
    signals = rl.SPREAD
    FIRES = rl.SPREAD_FIRES
    QUIET = rl.SPREAD_QUIET

    class Params(RuleParams, frozen=True):
        """When."""

        points: int = 20
        """In a row."""
        share: float = 0.001
        """Of its usual level is nothing."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self.memory: _Memory = self.fresh()
        self._key = ""

    def fresh(self) -> _Memory:
        """Nothing seen."""
        return _Memory(self.params.points)

    def happened(self, happening: Happening, view: RunView) -> None:
        """It was left behind."""
        if isinstance(happening.event, Restored):
            self._key = ""

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        found = rl.first_of(sample.values, rl.SPREAD)
        if found is None:
            return None
        (name, spread), m, p = found, self.memory, self.params
        m.window.append(spread)
        nothing = max(TINY, p.share * m.usual)
        if spread > nothing and not self._key:
            m.last = sample.step
        if len(m.window) < p.points:
            return None
        if spread > nothing:
            m.usual = max(m.usual, median(sorted(m.window)))
        some = sum(value > nothing for value in m.window)
        if self._key:
            return self._again(sample, name) if some > AGAIN else None
        if some:
            return None
        self._key = f"{self.name}:{sample.branch}:{m.last}"
        now = median(sorted(m.window))
        return self.found(
            "warning",
            f"{name} {now:.2g} at {p.points} logged points in a row (usual {m.usual:.3g}): all earn the same, nothing is learned from it",
            step=sample.step, branch=sample.branch, onset=m.last, key=self._key, evidence={"spread": now, "usual": m.usual},
        )  # fmt: skip

    def _again(self, sample: Sample, name: str) -> Finding:
        key, self._key = self._key, ""
        return self.found("info", f"{name} is more than nothing again at step {sample.step:,}", step=sample.step, branch=sample.branch,
                          key=key, evidence={RECOVERED: 1})  # fmt: skip
