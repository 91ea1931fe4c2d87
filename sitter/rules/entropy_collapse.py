"""The policy has become certain of what it does, and is no better for it."""

from collections import deque
from typing import ClassVar

from sitter.model import Finding
from sitter.rules import rl
from sitter.rules.base import RuleParams
from sitter.rules.cases.rl import ENTROPY_FIRES, ENTROPY_QUIET
from sitter.rules.course import FromBest, Noise
from sitter.rules.memory import Memory
from sitter.rules.robust import median
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample

POINTS = 20
"""Whose median is taken."""

HALF = 0.5
"""Of its first level: since it fell below that, the reward should have become better."""


class _Memory(Memory):
    """Of this line of branches."""

    def __init__(self) -> None:
        self.window: deque[float] = deque(maxlen=POINTS)
        self.first: float | None = None
        self.reward, self.noise = FromBest(POINTS), Noise(0.0)
        self.reward_then: float | None = None  # its median when the entropy was last above half
        self.half_step = 0


class EntropyCollapse(TroubleRule):
    """The entropy of the policy is all but gone, and the reward is no better than before: it explores no more.

    The median of the last 20 logged entropies stands below 5 % of the median of the first 20. A policy that learns becomes certain too:
    where the reward is logged, it must not have become better, by more than its noise, since the entropy fell below half. An entropy
    that is not positive (as that of a normal distribution may be) has no such share, and is not judged.

    It proposes nothing, since what helps (an entropy bonus, a higher temperature, clipping) is in your script. It says when the entropy
    is back. There are no published logs of this kind among those the rules are measured on.
    """

    name: ClassVar[str] = "entropy_collapse"
    title: ClassVar[str] = "no exploration left"
    default_mode = "watch"
    signals = rl.ENTROPY + rl.REWARD
    FIRES = ENTROPY_FIRES
    QUIET = ENTROPY_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        share: float = 0.05
        """Of the first level."""
        z: float = 2.0
        """By so many standard deviations of such a median the reward must be better to count as better."""

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        m = self.memory
        reward = rl.first_of(sample.values, rl.REWARD)
        if reward is not None:
            m.noise.push(sample.step, reward[1])
            m.reward.push(reward[1])
        found = rl.first_of(sample.values, rl.ENTROPY)
        if found is None:
            return None
        name, entropy = found
        m.window.append(entropy)
        if len(m.window) < POINTS:
            return None
        now = median(sorted(m.window))
        if m.first is None:
            m.first = now
        if m.first <= 0.0 or min(m.window) < 0.0:
            return None
        if now >= HALF * m.first:
            m.reward_then, m.half_step = m.reward.now, sample.step
        if self.trouble:
            back = now > 2 * self.params.share * m.first
            return self.ends(f"{name} is back at {now:.3g} at step {sample.step:,}", sample) if back else None
        if now > self.params.share * m.first:
            return None
        better = None
        if m.reward.now is not None and m.reward_then is not None:
            better = m.reward.now - m.reward_then
            if better > self.params.z * m.reward.blur * m.noise.middle:
                return None
        text = f"{name} {now:.3g}, {now / m.first:.1%} of the {m.first:.3g} it began with"
        if better is not None and reward is not None:
            text += f", and {reward[0]} is not better than at step {m.half_step:,} ({m.reward_then:.4g} → {m.reward.now:.4g})"
        return self.says(
            "info", f"{text}: the policy explores no more", sample, onset=m.half_step,
            evidence={"entropy": now, "first": m.first, "reward_change": better},
        )  # fmt: skip
