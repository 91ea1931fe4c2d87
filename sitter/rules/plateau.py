"""The training loss does not fall any more."""

import math
from itertools import pairwise
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import Rule, RuleParams
from sitter.rules.cases.drift import PLATEAU_FIRES, PLATEAU_QUIET
from sitter.rules.course import MIDDLE
from sitter.rules.memory import Memory
from sitter.rules.proposals import lower_rate
from sitter.rules.robust import median
from sitter.rules.view import RunView, Sample
from sitter_wire.events import KnobChanged, SessionStart
from sitter_wire.records import Happening

BLOCKS = 64
"""Means that are remembered; when there are so many, neighbours are joined."""

FROM_BLOCKS = 24
"""Fewer say nothing."""

FLAT = 0.02
"""Between the ends of the stretch, log scale: a loss that rises by more is no plateau."""

SURE = 2.0
"""Standard deviations of the difference between two medians, by which it must be too small: noise is no standstill."""

MEDIAN_TO_MEAN = 1.2533
"""√(π/2): standard deviation of the median of normal values over that of their mean."""

ANEW = 5.0
"""So many times ``fall`` it must have fallen since it was said, before another standstill is said."""

DECAYS = 1.05
"""A scheduled rate that came down by so much within the stretch is doing already what would be proposed."""


class _Blocks(Memory):
    """The whole course in at most 64 means of stretches of equal length."""

    def __init__(self) -> None:
        self.means: list[tuple[float, float]] = []  # of the loss and of the rate, log scale
        self.size = 1
        self.points = 0  # in whole blocks
        self._loss = self._rate = 0.0
        self._count = 0

    def push(self, loss: float, rate: float) -> bool:
        """One more point; whether a block is complete."""
        self._loss += loss
        self._rate += rate
        self._count += 1
        if self._count < self.size:
            return False
        self.points += self._count
        self.means.append((self._loss / self._count, self._rate / self._count))
        self._loss = self._rate = 0.0
        self._count = 0
        if len(self.means) >= BLOCKS:
            pairs = zip(self.means[::2], self.means[1::2], strict=True)
            self.means = [((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in pairs]
            self.size *= 2
        return True


class Plateau(Rule):
    """Over the last 60 % of the run so far the training loss has not fallen by one percent.

    Compared are the first and the last third of that stretch, by the medians of their blocks, so that a spike moves neither, and clear
    of the noise, once there are 1,000 points: what counts is not how long it stands still, but how long for its age. It says so and
    proposes to multiply the rate by 0.3, and asks first. It says nothing where the schedule lowers the rate already, or where less than
    a fifth of the run is left. It is said again once the loss has fallen on by 5 % and stands still again, for as long in its age; with
    a changed rate it looks anew. With ``kind="rl"`` or ``"gan"``, and for a loss that is not positive, it says nothing.

    On 291 published healthy logs it would not have asked once, and it sees the three that never got going:
    ``tests/benchmarks/judgement.py``.
    """

    name: ClassVar[str] = "plateau"
    title: ClassVar[str] = "loss stands still"
    default_mode = "ask"
    default_limit: ClassVar[str] = "1 per day"
    signals = ("loss",)
    FIRES = PLATEAU_FIRES
    QUIET = PLATEAU_QUIET
    remembers = _Blocks
    memory: _Blocks

    class Params(RuleParams, frozen=True):
        """When, and what is proposed."""

        share: float = 0.6
        """Of the run so far."""
        fall: float = 0.01
        """The loss must have fallen by such a share meanwhile."""
        points: int = 1000
        """Fewer logged points are too young a run."""
        end: float = 0.8
        """Of all steps, where their number is known: after that it says nothing."""
        cut: float = 0.3
        """What the rate is multiplied by."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._courses = 0  # rates that it has had: a standstill that was said, or vetoed, is the same one until the rate is another
        self._said: tuple[int, float] | None = None  # the course, and where the loss stood (log scale)

    def happened(self, happening: Happening, view: RunView) -> None:
        """With another rate the course is another one, and a process that begins from nothing has nothing to do with what stood still
        before it."""
        event = happening.event
        if isinstance(event, KnobChanged) and event.knob == "lr":
            self.memory = _Blocks()
            self._courses += 1
        elif isinstance(event, SessionStart) and event.resumed is None:
            self._said = None

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        values = sample.values
        loss = values.get("loss")
        if loss is None or not math.isfinite(loss) or view.kind in ("rl", "gan"):
            return None
        if loss <= 0.0:
            self.memory = _Blocks()
            return None
        rate = values.get("lr_scheduled", 1.0)
        blocks = self.memory
        if not blocks.push(math.log(loss), math.log(rate) if 0.0 < rate < math.inf else 0.0):
            return None
        p, means = self.params, blocks.means
        if blocks.points < p.points:
            return None
        if len(means) < FROM_BLOCKS or (view.total is not None and sample.step > p.end * view.total):
            return None
        stretch = means[-int(p.share * len(means)) :]
        third = len(stretch) // 3
        before, after = (median(sorted(m for m, _ in part)) for part in (stretch[:third], stretch[-third:]))
        distances = sorted(abs(b - a) for (a, _), (b, _) in pairwise(stretch))
        unsure = SURE * MEDIAN_TO_MEAN * MIDDLE * distances[len(distances) // 2] * math.sqrt(2.0 / third)
        if not -FLAT < before - after < -math.log1p(-p.fall) - unsure or stretch[0][1] - stretch[-1][1] > math.log(DECAYS):
            return None
        if self._said is not None and self._said[0] == self._courses and after > self._said[1] + ANEW * math.log1p(-p.fall):
            return None  # it still stands there
        self._said = self._courses, after
        steps = round(p.share * blocks.points)
        text = f"loss has not fallen by {100 * p.fall:g} % in {steps:,} logged points ({math.exp(before):.4g} → {math.exp(after):.4g})"
        return self.found(
            "info", text, step=sample.step, branch=sample.branch, actions=lower_rate(view, p.cut),
            key=f"{self.name}:{sample.branch}:{self._courses}",
            evidence={"before": math.exp(before), "after": math.exp(after), "points": blocks.points},
        )  # fmt: skip
