"""All that is tried earns the same: there is nothing to learn from."""

from collections import deque
from typing import ClassVar

from sitter.model import Finding
from sitter.rules import rl
from sitter.rules.base import RuleParams
from sitter.rules.cases.rl import SPREAD_FIRES, SPREAD_QUIET
from sitter.rules.memory import Memory
from sitter.rules.robust import median
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample

TINY = 1e-8
"""Is nothing, whatever was usual; libraries divide by the deviation plus as much."""

AGAIN = 4
"""Of them may be more than nothing again without its being over."""


class _Memory(Memory):
    """Of this line of branches."""

    def __init__(self, points: int) -> None:
        self.window: deque[float] = deque(maxlen=points)
        self.usual = 0.0  # the highest median so far
        self.last = 0  # step at which there was something


class NoLearningSignal(TroubleRule):
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
    FIRES = SPREAD_FIRES
    QUIET = SPREAD_QUIET
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        points: int = 20
        """In a row."""
        share: float = 0.001
        """Of its usual level is nothing."""

    def fresh(self) -> _Memory:
        """Nothing seen."""
        return _Memory(self.params.points)

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        found = rl.first_of(sample.values, rl.SPREAD)
        if found is None:
            return None
        (name, spread), m, p = found, self.memory, self.params
        m.window.append(spread)
        nothing = max(TINY, p.share * m.usual)
        if spread > nothing and not self.trouble:
            m.last = sample.step
        if len(m.window) < p.points:
            return None
        if spread > nothing:
            m.usual = max(m.usual, median(sorted(m.window)))
        some = sum(value > nothing for value in m.window)
        if self.trouble:
            return self.ends(f"{name} is more than nothing again at step {sample.step:,}", sample) if some > AGAIN else None
        if some:
            return None
        now = median(sorted(m.window))
        return self.says(
            "warning",
            f"{name} {now:.2g} at {p.points} logged points in a row (usual {m.usual:.3g}): all earn the same, nothing is learned from it",
            sample, onset=m.last, evidence={"spread": now, "usual": m.usual},
        )  # fmt: skip
