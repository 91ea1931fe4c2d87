"""What the rules about speed share: steps in blocks, so that a step costs one append and statistics come once a block."""

import abc
import random
from collections.abc import Callable, Iterator
from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.trouble import MachineRule
from sitter.rules.view import RunView, Sample
from sitter_wire.events import Paused, Restored, SessionStart
from sitter_wire.records import Happening

STEPS = 64
"""Of a block, or …"""
FEWEST, SECONDS = 16, 120.0
"""… so many where these take so many seconds: slow steps are judged within minutes, too."""

FAST_S = 10.0
"""A block that takes less is one of many."""


class StepRule(MachineRule, abc.ABC):
    """Looks at ``step_time`` by blocks of steps of one process, with no pause and no restore between them."""

    signals = ("step_time",)
    rests: ClassVar[int] = 0
    """So many blocks are left out after each where steps come fast: a fair sample, at a third of the price."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._block: list[Sample] = []
        self._look = FEWEST  # it may be full at so many
        self._rest = 0  # steps to be left out

    @abc.abstractmethod
    def judge(self, block: list[Sample], view: RunView) -> Finding | None:
        """A block is full. The first of a process holds its compilation and the start of its loader."""

    def begin_anew(self) -> None:
        """Another process: what was learned of the one before may not hold."""

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One step."""
        if self._rest:
            self._rest -= 1
            return None
        block = self._block
        block.append(sample)
        if len(block) < self._look:
            return None
        passed = sample.time - block[0].time
        if len(block) < STEPS and passed < SECONDS:
            self._look = min(STEPS, 1 + int(len(block) * SECONDS / passed)) if passed > 0.0 else STEPS
            return None
        self._block, self._look = [], FEWEST
        if passed < FAST_S:
            self._rest = self.rests * STEPS
        return self.judge(block, view)

    def happened(self, happening: Happening, view: RunView) -> None:
        """No block goes over a pause or a restore."""
        event = happening.event
        if isinstance(event, SessionStart | Paused | Restored):
            self._block, self._look = [], FEWEST
        if isinstance(event, SessionStart):
            self.begin_anew()


def middle(values: list[float]) -> float:
    """The median of a non-empty list."""
    ordered = sorted(values)
    n = len(ordered)
    return ordered[n // 2] if n % 2 else 0.5 * (ordered[n // 2 - 1] + ordered[n // 2])


def in_words(seconds: float) -> str:
    """Of a step: ``1.25 s``, ``12 ms``."""
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{1000.0 * seconds:.3g} ms"


def stepping(view: RunView) -> bool:
    """Whether steps are made: the last is 10 s ago at most, or five usual ones. What is longer evaluates, or compiles."""
    age, rate = view.safe_point_age, view.steps_per_s
    return age is not None and rate is not None and age < max(10.0, 5.0 / rate)


def seconds_of(block: list[Sample]) -> list[float]:
    """What each step took."""
    return [s.values["step_time"] for s in block]


def waits(block: list[Sample]) -> list[float]:
    """Of each step the seconds that it waited for data; 0 where that is not known."""
    return [s.values.get("data_wait", 0.0) for s in block]


def steps(
    took: Callable[[int, float], float], count: int, *, wait: Callable[[int, float], float] | None = None,
    gap: Callable[[int], float] | None = None,
) -> Iterator[Sample]:  # fmt: skip
    """For cases: so many steps, of a noise of 2 %. ``took`` and ``wait`` in seconds by step and seconds so far, the wait being part of
    what it took; ``gap``: seconds between this step and the next that no step accounts for."""
    noise, at = random.Random(11), 0.0
    for i in range(count):
        seconds = took(i, at) * (1.0 + 0.02 * abs(noise.gauss(0.0, 1.0)))
        values = {"step_time": seconds}
        if wait is not None:
            values["data_wait"] = min(seconds, wait(i, at))
        at += seconds
        yield Sample(step=i, branch=0, time=at, values=values)
        at += 0.0 if gap is None else gap(i)
