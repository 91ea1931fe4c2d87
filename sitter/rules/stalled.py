"""The training lives and makes no step."""

from typing import ClassVar

from sitter.clock import human
from sitter.model import Finding, Notification
from sitter.rules.base import RECOVERED, Case, Rule, RuleParams, Tick
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import DumpStacks
from sitter_wire.events import Paused, SessionStart
from sitter_wire.records import Happening

ANSWERS_S = 15.0
"""The agent's control thread is asked once a second; silent for longer, the process is hung and not stalled, which is another's to say."""


def _quiet_for(seconds: int, **facts: object) -> list[Tick]:
    return [Tick(float(t), {"safe_point_age": float(t), "agent_age": 0.5, **facts}) for t in range(0, seconds, 10)]


def _after_pauses_of(pause: float, seconds: int) -> list[Sample | Tick]:
    return [*(Sample(step=i, branch=0, time=pause * i, values={"loss": 1.0}) for i in range(3)), *_quiet_for(seconds)]


class Stalled(Rule):
    """No safe point for half an hour longer than the longest pause this run has come back from.

    Evaluation, compilation and writing files make single steps 10 to 4,000 times longer than usual, so that a multiple of the step time
    cries wolf or is useless. The run's own pauses say what it can be silent for: before the first one is known, that is nothing, and
    the half hour alone counts; before the first step it is a full hour (loading, compiling). The agent's control thread answers all the
    while, which tells a training that waits from a process that hangs. It asks for the stacks of all threads and tells somebody.
    """

    name: ClassVar[str] = "stalled"
    title: ClassVar[str] = "no progress"
    default_mode = "act"  # it looks and tells somebody
    default_limit: ClassVar[str] = "6 per day"

    class Params(Rule.Params, frozen=True):
        """When."""

        minutes: float = 30.0
        """Longer than the longest pause so far (SageMaker Debugger waits as long without output)."""
        start_minutes: float = 60.0
        """Before the first step of a session."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._longest = 0.0
        self._last: float | None = None
        self._age = 0.0
        self._said = False
        self._times = 0

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """Learn how long this run can be silent."""
        if self._last is not None and not view.paused:
            self._longest = max(self._longest, sample.time - self._last)
        self._last = sample.time
        return None

    def happened(self, happening: Happening, view: RunView) -> None:
        """The time a process was away, or was held, is no pause of its own."""
        if isinstance(happening.event, SessionStart | Paused):
            self._last = None

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Every second."""
        if not view.in_session or view.paused or view.agent_age is None or view.agent_age > ANSWERS_S:
            return None
        before_first = view.safe_point_age is None
        age = now - (view.started if view.started is not None else now) if view.safe_point_age is None else view.safe_point_age
        step = view.step or 0
        if self._said:
            if age >= self._age:
                self._age = age
                return None
            self._said = False
            return self.found(
                "info", f"it goes on after {human(self._age)} without a step", step=step, branch=view.branch,
                evidence={RECOVERED: 1, "seconds": self._age}, key=f"{self.name}:{self._times}",
            )  # fmt: skip
        if age <= (self.params.start_minutes if before_first else self.params.minutes) * 60.0 + self._longest:
            return None
        self._said, self._age, self._times = True, age, self._times + 1
        usual = f"its longest pause so far was {human(self._longest)}" if self._longest >= 1.0 else "it has not been silent before"
        text = f"no step for {human(age)} at step {step:,}, the process lives; {usual}"
        return self.found(
            "critical", text, step=step, branch=view.branch, evidence={"seconds": age, "longest_pause": self._longest},
            actions=[DumpStacks(), Notification(event="stalled", text=text)], key=f"{self.name}:{self._times}",
        )  # fmt: skip

    FIRES = (
        Case("nothing for 40 minutes", lambda: _quiet_for(2400), says="no step for 30 m", acts=True),
        Case("nothing for 50 minutes, after evaluations of 10", lambda: _after_pauses_of(600.0, 3000), says="pause so far was 10 m"),
        Case(
            "never began", lambda: [Tick(float(t), {"started": 0.0, "agent_age": 0.5}) for t in range(0, 3700, 10)], says="no step for 1 h"
        ),
        Case("and goes on", lambda: [*_quiet_for(2400), *_quiet_for(100)], says="it goes on after"),
    )
    QUIET = (
        Case("the first evaluation, of 25 minutes", lambda: _quiet_for(1500)),
        Case("an evaluation of 80 minutes where they take an hour", lambda: _after_pauses_of(3600.0, 4800)),
        Case("paused by the operator", lambda: _quiet_for(9000, paused=True)),
        Case("the process hangs: the control thread is silent too", lambda: _quiet_for(9000, agent_age=300.0)),
        Case("no training runs", lambda: _quiet_for(9000, in_session=False)),
        Case("compiling for 50 minutes", lambda: [Tick(float(t), {"started": 0.0, "agent_age": 0.5}) for t in range(0, 3000, 10)]),
    )
