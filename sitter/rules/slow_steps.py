"""Single steps take far longer than the others, more often than this run is used to."""

import random
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, NamedTuple

from sitter.model import Finding
from sitter.rules.base import Case, RuleParams
from sitter.rules.steps import StepRule, in_words, middle, seconds_of, steps
from sitter.rules.view import RunView, Sample

IQR = 1.349
"""Of a normal distribution, the distance of its quartiles in standard deviations."""
WINDOW = 500
"""Steps that are looked at (SageMaker Debugger's window)."""
KNOWN = 4
"""Windows that must have been seen before, to know what is usual, and …"""
REMEMBERED = 64
"""… so many are remembered."""
REGULAR = 0.7
"""Of the distances between slow steps so many are alike: that is the script's own schedule, and `overhead` adds it up."""
APART = 3
"""Blocks of 64 steps that slow ones must be found in: one stretch of them is an event, or the beginning of another level."""


class _Part(NamedTuple):
    """A block: steps, those that were slow, seconds in all, seconds that the slow ones took beyond the usual, and of these for data."""

    steps: int
    slow: list[int]
    seconds: float
    lost: float
    waited: float


def _hiccups(every: int, seconds: float, *, after: int = 0, until: int = 10**9, wait: float = 0.0, count: int = 6000) -> Iterator[Sample]:
    """One in so many steps, by chance, takes so long."""
    chance = random.Random(5)
    slow = {i for i in range(count) if chance.random() * every < 1.0 and after <= i < until}
    return steps(lambda i, t: seconds if i in slow else 0.1, count, wait=(lambda i, t: wait if i in slow else 0.0) if wait else None)


class SlowSteps(StepRule):
    """More than ten of the last 500 steps took far longer than usual, and that is new: they cost a tenth of the time or more.

    Slow is a step of twice the usual time and beyond three standard deviations of it (SageMaker Debugger's bar of 3 σ and ten
    outliers). Every run has a tail: what is asked is whether there are twice as many as in any stretch of 500 steps before, after the
    first two thousand. Slow steps at even distances are the script's own evaluations and checkpoints, of which `overhead` speaks. What is
    left is the machine's: a file system, another job, a garbage collector, a network. It says which part of it was waiting for data.
    """

    name: ClassVar[str] = "slow_steps"
    title: ClassVar[str] = "slow steps"
    default_mode = "watch"

    class Params(RuleParams, frozen=True):
        """When."""

        times: float = 2.0
        """Slow is a step of so many times the usual."""
        sigma: float = 3.0
        """It must also lie so many standard deviations above (SageMaker Debugger)."""
        count: int = 10
        """More of them within 500 steps."""
        share: float = 0.1
        """Of the time that they must cost; from 2.5 times that on it is a warning."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Another process: its tail is to be learned."""
        self._centres: deque[tuple[float, float]] = deque(maxlen=8)
        self._parts: deque[_Part] = deque()
        self._in_window = self._slow = 0  # steps, and slow ones among them
        self._since = 0
        self._known: deque[int] = deque(maxlen=REMEMBERED)
        self._latest: int | None = None  # of the last whole window, which may be the beginning of what is looked for
        self._first = True

    def judge(self, block: list[Sample], view: RunView) -> Finding | None:
        """The slow ones of this block, and of the last 500 steps."""
        if self._first:
            self._first = False
            return None
        took = seconds_of(block)
        ordered = sorted(took)
        n = len(ordered)
        centre = ordered[n // 2]
        self._centres.append((centre, (ordered[3 * n // 4] - ordered[n // 4]) / IQR))
        usual, sigma = middle([c for c, _ in self._centres]), middle([s for _, s in self._centres])
        if not usual > 0.0:
            return None
        bar = max(self.params.times * usual, usual + self.params.sigma * sigma)
        if centre > bar:  # not some steps, all of them: that is another level, which `throughput` looks at
            self._centres.clear()
            self._parts.clear()
            self._in_window = self._slow = 0
            return None
        slow = [s for s in block if s.values["step_time"] > bar] if ordered[-1] > bar else []
        lost = sum([s.values["step_time"] - usual for s in slow])
        waited = sum([min(s.values.get("data_wait", 0.0), s.values["step_time"] - usual) for s in slow])
        self._add(_Part(len(block), [s.step for s in slow], sum(took), lost, waited))
        if self._in_window < WINDOW:
            return None
        self._since += len(block)
        found = self._judged(usual, block[-1]) if self.trouble or self._slow > self.params.count else None
        if self._since >= WINDOW:
            self._since = 0
            if found is None and not self.trouble:
                if self._latest is not None:
                    self._known.append(self._latest)
                self._latest = self._slow
        return found

    def _add(self, part: _Part) -> None:
        parts = self._parts
        parts.append(part)
        self._in_window += part.steps
        self._slow += len(part.slow)
        while self._in_window - parts[0].steps >= WINDOW:
            gone = parts.popleft()
            self._in_window -= gone.steps
            self._slow -= len(gone.slow)

    def _judged(self, usual: float, newest: Sample) -> Finding | None:
        slow = [s for p in self._parts for s in p.slow]
        n, seconds, lost = len(slow), sum([p.seconds for p in self._parts]), sum([p.lost for p in self._parts])
        share = lost / seconds
        if self.trouble:
            if n > self.params.count / 2 and share > self.params.share / 2:
                return None
            text = f"steps take {in_words(usual)} again, with {n} slow ones in the last {self._in_window}"
            return self.ends(text, newest, evidence={"count": n, "share": share})
        if n <= self.params.count or share < self.params.share or sum([bool(p.slow) for p in self._parts]) < APART:
            return None
        if len(self._known) < KNOWN or n <= 2 * max(self._known) or _regular(slow):
            return None
        data = sum([p.waited for p in self._parts]) / lost
        why = f"; {data:.0%} of that is waiting for data: look at the storage" if data > 0.5 else "; look for another job, or swapping"
        text = (
            f"{n} of the last {self._in_window} steps took {lost / n / usual + 1.0:.1f} × the usual {in_words(usual)} on average, which "
            f"cost {share:.0%} of the time (before: at most {max(self._known)} in as many){why}"
        )
        return self.says(
            "warning" if share >= 2.5 * self.params.share else "info", text, newest, onset=slow[0],
            evidence={"count": n, "steps": self._in_window, "usual_s": usual, "lost_s": lost, "share": share, "data_share": data},
        )  # fmt: skip

    FIRES = (
        Case("from step 4,000 on every twentieth takes a second", lambda: _hiccups(20, 1.0, after=4000), says="at most 0 in as many"),
        Case("all of it for data", lambda: _hiccups(20, 1.0, after=4000, wait=0.95), says="waiting for data"),
        Case("and it is over", lambda: _hiccups(20, 1.0, after=4000, until=5000), says="ms again, with"),
    )  # fmt: skip
    QUIET = (
        Case("steady", lambda: steps(lambda i, t: 0.1, 8000)),
        Case("a tail from the beginning on", lambda: _hiccups(25, 0.5, count=12_000)),
        Case("compiles for minutes, and again at step 100 and 200", lambda: steps(lambda i, t: 120.0 if i in (0, 100, 200) else 0.1, 6000)),
        Case("evaluations of 1,000 steps' time every 500 steps", lambda: steps(lambda i, t: 100.0 if i % 500 == 499 else 0.1, 8000)),
        Case("a short evaluation every 20 steps, from step 4,000 on",
             lambda: steps(lambda i, t: 1.0 if i > 4000 and i % 20 == 0 else 0.1, 8000)),
        Case("steps of two kinds", lambda: steps(lambda i, t: 0.3 if i * 7919 % 3 == 0 else 0.1, 8000)),
        Case("a noisy machine, by 40 %", lambda: steps(lambda i, t: 0.1 * (1 + (i * 7919 % 101) / 250), 8000)),
        Case("a few hiccups", lambda: _hiccups(100, 0.5, after=4000)),
        Case("all steps become slower", lambda: steps(lambda i, t: 0.1 if i < 4000 else 0.25, 8000)),
    )  # fmt: skip


def _regular(slow: list[int]) -> bool:
    """Whether they come at even distances."""
    apart = [b - a for a, b in pairwise(slow)]
    usual = sorted(apart)[len(apart) // 2]
    return usual > 1 and sum([abs(d - usual) <= 1 for d in apart]) >= REGULAR * len(apart)
