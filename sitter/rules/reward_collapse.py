"""The reward has fallen far from its best, and stays down."""

import math
from collections import deque
from statistics import stdev
from typing import ClassVar

from sitter.model import Finding
from sitter.rules import rl
from sitter.rules.base import RuleParams
from sitter.rules.cases.rl import REWARD_FIRES, REWARD_QUIET
from sitter.rules.course import MIDDLE, TAIL
from sitter.rules.memory import Memory
from sitter.rules.proposals import go_back
from sitter.rules.robust import median
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample

BLOCK = 20
"""Points of one mean, of which the outer quarters are left out: it bears odd episodes, and rewards that are only 0 or 1."""

FROM = 6
"""Such means that must have been, so that their noise is known."""

MANY = 64
"""Of them from which it is learned: of neighbours, since rewards are often logged as averages of many episodes and move slowly."""

TWICE = 2
"""In a row it must be low."""

NEAR = 0.1
"""Of its range: so near its best all was still well."""

BACK = 0.25
"""Of its range: so near its best it is over."""


class _Memory(Memory):
    """Of this line of branches."""

    def __init__(self) -> None:
        self.block: list[float] = []
        self.last: float | None = None
        self.distances: deque[float] = deque(maxlen=MANY)
        self.errors: deque[float] = deque(maxlen=MANY)  # standard error of each mean by its own points
        self.best = self.worst = self.worst_before = 0.0  # the last: the worst when the best was reached
        self.well = 0  # last step at which it stood near its best
        self.in_a_row = 0


class RewardCollapse(TroubleRule):
    """The reward has lost more than half of what it had gained, and stays down: the policy is ruined, or the task became harder.

    Compared are means of 20 logged rewards, of which the outer quarters are left out; the range is from the best of them down to the
    lowest before it, so a reward may have any sign and scale. Two in a row must lie below the middle of that range, and 8 standard
    deviations of such a mean below the best. Known as reward are ``reward``, ``episode_return``, ``rollout/ep_rew_mean``,
    ``charts/episodic_return`` and their like.

    It proposes to go back to before the fall with half the rate, and asks first: only you know whether the task was changed. It says
    when the reward is back. There are no published logs of this kind among those the rules are measured on.
    """

    name: ClassVar[str] = "reward_collapse"
    title: ClassVar[str] = "reward collapsed"
    default_mode = "ask"
    default_limit: ClassVar[str] = "2 per day"
    signals = rl.REWARD
    FIRES = REWARD_FIRES
    QUIET = REWARD_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When, and what is proposed."""

        share: float = 0.5
        """Of its range is lost."""
        z: float = 8.0
        """The fall is so many standard deviations of such a mean."""
        cut: float = 0.5
        """What the rate is multiplied by."""

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        found = rl.first_of(sample.values, rl.REWARD)
        if found is None:
            return None
        m = self.memory
        m.block.append(found[1])
        return self._block(m, found[0], sample, view) if len(m.block) >= BLOCK else None

    def _block(self, m: _Memory, name: str, sample: Sample, view: RunView) -> Finding | None:
        quarter = BLOCK // 4
        now = sum(sorted(m.block)[quarter:-quarter]) / (BLOCK - 2 * quarter)
        m.errors.append(stdev(m.block) / math.sqrt(BLOCK))
        m.block = []
        if m.last is None:
            m.best = m.worst = m.worst_before = now
        else:
            m.distances.append(abs(now - m.last))
        m.last = now
        m.worst = min(m.worst, now)
        if now >= m.best:
            m.best, m.worst_before = now, m.worst
        p, span, fall = self.params, m.best - m.worst_before, m.best - now
        if fall <= NEAR * span:
            m.well = sample.step
        if self.trouble:
            back = fall <= BACK * span
            return self.ends(f"{name} is back near its best at step {sample.step:,} ({now:.4g})", sample) if back else None
        noise = self._noise(m)
        m.in_a_row = m.in_a_row + 1 if fall > max(p.share * span, p.z * noise) else 0
        if m.in_a_row < TWICE or len(m.distances) < FROM:
            return None
        return self._fell(sample, view, name, now, span, min(fall / noise, 1e6) if noise > 0.0 else 1e6)

    def _noise(self, m: _Memory) -> float:
        """Standard deviation of such a mean: by its neighbours, in the middle and in the tails, and by its own points."""
        ordered = sorted(m.distances)
        own = median(sorted(m.errors))
        return max(MIDDLE * median(ordered), TAIL * ordered[9 * len(ordered) // 10], own) if ordered else own

    def _fell(self, sample: Sample, view: RunView, name: str, now: float, span: float, z: float) -> Finding:
        m = self.memory
        text = f"{name} fell from {m.best:.4g} to {now:.4g} since step {m.well:,}, and stays there"
        if span > 0.0:
            text += f": it has lost {min((m.best - now) / span, 1.0):.0%} of what it had gained"
        return self.says(
            "warning", text, sample, onset=m.well, actions=go_back(view, m.well, self.params.cut, text),
            evidence={"best": m.best, "now": now, "share": (m.best - now) / span if span > 0.0 else None, "z": z},
        )  # fmt: skip
