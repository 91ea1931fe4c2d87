"""The loss drifts away from its best and does not come back: slow, without a spike."""

import math
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.cases.course import DIVERGENCE_FIRES, DIVERGENCE_QUIET
from sitter.rules.course import LEAST, NEAR, FromBest, Grain, Witnesses, times
from sitter.rules.memory import Memory
from sitter.rules.proposals import go_back
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample
from sitter_wire.events import Restored

POINTS = 40
"""Training losses that are looked at where these are the only witness: more than the guard waits for the end of bad batches, so that
nobody is asked about what is being healed."""

MOVES, MOVES_TO_SIGMA = 256, math.sqrt(math.pi) / 2.0
"""The noise of the training loss: mean distance between neighbours, over so many points, × this = standard deviation of a normal one."""

RESTING_POINTS = 40
"""Points for which nothing is judged once a loss was not positive."""


class _Memory(Memory):
    """What it remembers of both losses on this line of branches."""

    def __init__(self) -> None:
        self.both = Witnesses()
        self.alone = FromBest(POINTS)
        self.grain = Grain()
        self.last: float | None = None  # the training loss, log scale
        self.moves, self.losses = 0.0, 0  # mean distance between neighbours over about MOVES points; how many there were, at most MOVES
        self.well = 0  # last step at which the training loss stood near its best
        self.resting = 0

    def learn(self, loss: float) -> None:
        """A training loss, finite and positive."""
        x, last, moves = math.log(loss), self.last, self.moves
        self.both.loss(x)
        if last is not None:
            if self.losses < MOVES:
                self.losses += 1
            self.moves = moves + (abs(x - last) - moves) / self.losses
        self.last = x
        self.alone.push(x)
        self.grain.push(loss)
        if self.resting:
            self.resting -= 1

    @property
    def noise(self) -> float:
        """Of the training loss, a standard deviation."""
        return max(MOVES_TO_SIGMA * self.moves, LEAST)


class Divergence(TroubleRule):
    """The loss has risen from its best and stays up: training and validation loss both, or the training loss alone and by more.

    Two witnesses are worth more than one. Where both are logged, the medians of the last 3 evaluations and of the training loss between
    them must stand 1.2 times above the lowest there were; alone, all but a fifth of the last 40 training losses must stand 1.5 times
    above it. Both must be clear of the noise. A validation loss that rises alone is no divergence, see ``overfit``; a jump is seen
    earlier by ``spike``. On 291 published healthy logs two witnesses never came above 1.12: ``tests/benchmarks/judgement.py``.

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
    remembers = _Memory
    memory: _Memory

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
        self._said = 0.0
        self._over = 0.0  # the rise below which what was said is over: half of the bar that it passed
        self._proposed = False
        self._say: Finding | None = None

    def restored(self, event: Restored) -> None:
        """What had risen was left behind: said with the next point."""
        self._say = self.ends("the rise of the loss was left behind by going back", event) or self._say

    def refused(self, view: RunView) -> None:
        """It may be proposed again when it is worse."""
        self._proposed = False

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        values = sample.values
        loss, val = values.get("loss"), values.get("val_loss")
        if view.kind in ("rl", "gan"):
            return None
        m, p = self.memory, self.params
        queued, self._say = self._say, None
        if loss is not None and math.isfinite(loss):
            if loss <= 0.0:
                m.resting = RESTING_POINTS
                m.both.rest()
                return queued
            m.learn(loss)
        if val is not None:
            m.both.val_loss(sample.step, val)
            both = m.both.rise
            if both is not None and both > self._both and m.both.z > p.z_both:
                return self._risen(sample, view, both, m.both.well, "training and validation loss") or queued
        rise = m.alone.rise
        if m.resting or rise is None:
            return queued
        if rise < NEAR:
            m.well = sample.step
        elif rise > self._alone and m.alone.nearly_all > self._alone and rise > p.z_alone * m.alone.blur * m.noise and self._tells(m.alone):
            return self._risen(sample, view, rise, m.well, "loss") or queued
        if self.trouble and rise < self._over and (m.both.rise is None or m.both.rise < self._over):
            where = "near its best" if rise < NEAR else f"at {times(rise)} × its best"
            return self.ends(f"loss is back {where} at step {sample.step:,} by itself", sample)
        return queued

    def _tells(self, alone: FromBest) -> bool:
        """It has risen by more than rounding."""
        return alone.now is not None and self.memory.grain.tells(math.exp(min(700.0, alone.now)), math.exp(min(700.0, alone.best)))

    def _risen(self, sample: Sample, view: RunView, rise: float, well: int, which: str) -> Finding | None:
        if not self.trouble:
            self._proposed = False
            self._over = 0.5 * (self._alone if which == "loss" else self._both)
        elif rise < self._said + self._again:
            return None
        self._said = rise
        has = "it has" if which == "loss" else "they have"
        text = f"{which} {times(rise)} × the best {has} been, rising since step {well:,}"
        actions = [] if self._proposed else go_back(view, well, self.params.cut, text)
        self._proposed = self._proposed or bool(actions)
        return self.says(
            "warning", text, sample, onset=well, actions=actions,
            evidence={"factor": math.exp(min(700.0, rise)), "witnesses": 1 if which == "loss" else 2},
        )  # fmt: skip
