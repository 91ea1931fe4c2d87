"""The present, as the records tell it: last values, knobs, branches, checkpoints, where the loop stands. No decisions here."""

import math
from collections import deque
from collections.abc import Iterable

import msgspec

from sitter.control.step_rate import StepRate
from sitter.model import CheckpointInfo, GoalNow, KnobNow, SignalNow
from sitter.rules.view import Sample
from sitter.store.lines import BEGINNING
from sitter_wire import events
from sitter_wire.messages import Pong
from sitter_wire.records import Happening, Point

SLOPE_POINTS, SLOPE_FROM = 240, 40
"""Losses from which the slope is read, and how many there must be: two means of twenty, each a fifth as noisy as one loss."""
GOALS = 4096
"""Values of the goal that are remembered, so that its best is known after a restore, too."""
NOTICE_S = 600.0
"""A training that still steps so long after a notice was not taken away: how it ends is another matter."""
HIDDEN = frozenset({"lr_scheduled"})
"""Signals that are shown with their knob and not by themselves."""


class Session(msgspec.Struct, kw_only=True):
    """What is known of one trainer process. ``clock`` = (wall, monotonic) seconds read together."""

    id: str
    pid: int
    clock: tuple[float, float] | None = None
    start: events.SessionStart | None = None
    """None until its record has come."""
    goodbye: str | None = None
    """How it ended, as it said itself: ``total``, ``closed``, ``stopped``, ``left early``, ``crashed``; None where it has not."""
    why: str = ""
    """The exception that ended its script."""
    preempted: bool = False
    """It was told that the machine is taken away, and may still be writing its checkpoint."""
    preempted_at: float = 0.0
    """Monotonic seconds of that."""

    def wall(self, monotonic_ns: int) -> float | None:
        """A record's time as unix seconds."""
        if self.clock is None:
            return None
        return self.clock[0] + (monotonic_ns / 1e9 - self.clock[1])


class Present:
    """Live facts of the run. Fed on the loop's thread, record by record. None is unknown; times are monotonic seconds."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.step: int | None = None
        self.branch: int | None = None
        self.total: int | None = None
        """Optimizer steps that the loop will take."""
        self.epochs: int | None = None
        self.paused = False
        self.last_safe_point: float | None = None
        self.pong: Pong | None = None
        """The control thread's last word."""
        self.pong_at: float | None = None
        self.signals: dict[str, SignalNow] = {}
        self.specs: dict[str, events.KnobSpec] = {}
        self.scales: dict[str, tuple[float, bool]] = {}
        """Of each knob: its scale, and whether it is held against the schedule."""
        self.values: dict[str, float] = {}
        """Of each knob that was moved: its effective value then."""
        self._changed: set[str] = set()
        """Knobs that were moved since a signal of theirs came: most are told every 30 seconds only, and not in a pause."""
        self.checkpoints: dict[str, CheckpointInfo] = {}
        self.parents: dict[int, tuple[int | None, int | None]] = {}
        """Of each branch: which one, and after which step, it came from; (None, None) where from nothing."""
        self.goal: tuple[str, str] | None = None
        """Its name, and which way is better: ``lower`` or ``higher``."""
        self._goal_best: tuple[float, int] | None = None
        """Value and step, on the present line of branches."""
        self._goals: deque[tuple[int, float]] = deque(maxlen=GOALS)
        self.rate = StepRate()
        self._slope: deque[tuple[int, float]] = deque(maxlen=SLOPE_POINTS)
        self._slope_every = 1
        """Steps between two of them, at least."""

    # -- records ---------------------------------------------------------------------------------------------------------

    def point(self, point: Point) -> None:
        """Values at a step."""
        wall = self.session.wall(point.time) if self.session else None
        for name, value in zip(point.names, point.values, strict=True):
            self.signals[name] = SignalNow(last=value, step=point.step, time=wall)
        self._changed.difference_update(point.names)
        self._advance(point.step, point.branch, point.time / 1e9)
        goal = self.goal
        if goal and goal[0] in point.names:
            self._goal_value(point.step, point.values[point.names.index(goal[0])])
        if "loss" in point.names:
            self._loss(point.step, point.values[point.names.index("loss")])

    def recall(self, sample: Sample) -> None:
        """A point of the history, told to a new daemon: last values, goal and slope, but no rate (that is of the present)."""
        for name, value in sample.values.items():
            self.signals[name] = SignalNow(last=value, step=sample.step)
        self._changed.difference_update(sample.values)
        self.step, self.branch = sample.step, sample.branch
        if self.goal and self.goal[0] in sample.values:
            self._goal_value(sample.step, sample.values[self.goal[0]])
        if "loss" in sample.values:
            self._loss(sample.step, sample.values["loss"])

    def recall_goal(self, goals: Iterable[tuple[int, float]]) -> None:
        """The goal on the present line of branches, oldest first, (step, value): in place of what ``recall`` was told of it."""
        self._goals.clear()
        self._goal_best = None
        for step, value in goals:
            self._goal_value(step, value)

    def happening(self, h: Happening) -> None:
        """An event at a step."""
        event = h.event
        if isinstance(event, events.SessionStart):
            self._started(event)
        elif isinstance(event, events.LoopStart):
            self.total = event.total if event.total is not None else self.total
            self.epochs = event.epochs if event.epochs is not None else self.epochs
        elif isinstance(event, events.KnobDeclared):
            self.specs[event.spec.name] = event.spec
            self.scales.setdefault(event.spec.name, (1.0, False))
        elif isinstance(event, events.KnobChanged):
            self.scales[event.knob] = (event.scale, event.held)
            self.values[event.knob] = event.new
            self._changed.add(event.knob)
        elif isinstance(event, events.Restored):
            self._restored(event)
        elif isinstance(event, events.Paused):
            self.paused = event.paused
        elif isinstance(event, events.CheckpointWritten):
            self._written(event, h.time)
        elif isinstance(event, events.CheckpointRemoved):
            self.checkpoints.pop(event.path, None)
        elif isinstance(event, events.GoodBye) and self.session:
            self.session.goodbye, self.session.why = event.how, event.why
        elif isinstance(event, events.Preempted) and self.session:
            self.session.preempted, self.session.preempted_at = True, h.time / 1e9
        if h.branch == self.branch and self.step is not None:
            self.step = max(self.step, h.step)  # a safe point after the last value: one more step is done

    def pinged(self, pong: Pong, now: float) -> None:
        """The control thread answered. ``now`` monotonic seconds."""
        self.pong, self.pong_at = pong, now
        self.paused = pong.paused
        if pong.safe_point_at is not None:
            self.last_safe_point = max(self.last_safe_point or 0.0, pong.safe_point_at)
        self.step, self.branch = pong.step, pong.branch

    # -- derived ---------------------------------------------------------------------------------------------------------

    def micro_now(self) -> int | None:
        """Turns of the loop, as of the control thread's last word; where every turn was a step so far, as of the last record."""
        if self.pong is None or (self.session is not None and self.pong.session != self.session.id):
            return None
        return self.step if self.pong.micro == self.pong.step else self.pong.micro

    def slope_per_k(self) -> float | None:
        """Change of the loss per 1,000 steps: means of the two halves of the window, so that noise evens out."""
        finite = [(s, v) for s, v in self._slope if math.isfinite(v)]
        if len(finite) < SLOPE_FROM:
            return None
        half = len(finite) // 2
        (s0, v0), (s1, v1) = (_means(finite[:half]), _means(finite[half:]))
        return (v1 - v0) / (s1 - s0) * 1000 if s1 > s0 else None

    def knobs(self) -> dict[str, KnobNow]:
        """scheduled × scale = effective, as far as they are known."""
        out = {}
        for name, spec in self.specs.items():
            scale, held = self.scales.get(name, (1.0, False))
            effective = self.values.get(name)
            scheduled = None
            if name in self.signals and name not in self._changed:
                effective = self.signals[name].last
            if f"{name}_scheduled" in self.signals:
                scheduled = self.signals[f"{name}_scheduled"].last
            elif effective is not None and scale and not held:
                # momentum and betas move in 1 - value
                scheduled = 1 - (1 - effective) / scale if spec.scale == "log1m" else effective / scale
            out[name] = KnobNow(
                scheduled=scheduled,
                scale=scale,
                effective=effective,
                low=spec.low,
                high=spec.high,
                held=held,
                note=spec.note,
            )
        return out

    def goal_now(self) -> GoalNow | None:
        """The goal with its best on the present line of branches."""
        if self.goal is None:
            return None
        name, better = self.goal
        last = self.signals.get(name)
        best = self._goal_best
        return GoalNow(
            name=name,
            better="higher" if better == "higher" else "lower",
            last=last.last if last else None,
            last_step=last.step if last else None,
            best=best[0] if best else None,
            best_step=best[1] if best else None,
        )

    def goal_at(self, step: int) -> float | None:
        """The goal's last value at or before a step of the present line; None where that is none or too long ago."""
        return next((value for at, value in reversed(self._goals) if at <= step), None)

    def ends_in(self) -> float | None:
        """Seconds until ``total`` at the present rate; None where either is unknown."""
        rate = self.rate.per_s()
        if rate is None or self.total is None or self.step is None:
            return None
        return max(0, self.total - self.step) / rate

    def epoch(self) -> float | None:
        """How many are done, parts of one included; None where the training does not count so, or its first one is not over."""
        if self.step is None or not self.total or not self.epochs:
            return None
        return min(self.step, self.total) * self.epochs / self.total

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _advance(self, step: int, branch: int, at: float) -> None:
        self.step, self.branch = step, branch
        if self.session is not None and self.session.preempted and at - self.session.preempted_at > NOTICE_S:
            self.session.preempted = False
        self.rate.step(step, at)

    def _started(self, start: events.SessionStart) -> None:
        if self.session:
            self.session.start = start
            self.session.pid = start.pid
        self.paused = False
        self.total = start.total if start.total is not None else self.total
        self.specs.clear()
        self.scales.clear()
        self._changed.clear()
        self.rate.clear()
        self.parents[start.branch] = start.resumed or (None, None)
        self._goals_until(start.resumed[1] if start.resumed else BEGINNING)
        if start.goal:
            self.goal = (start.goal, start.better)

    def _written(self, event: events.CheckpointWritten, time: int) -> None:
        """Whether it is good will be seen."""
        self.checkpoints[event.path] = CheckpointInfo(
            branch=event.branch, step=event.step, path=event.path, bytes=event.bytes, good=False, verified=event.verified,
            pinned=event.pinned, time=self.session.wall(time) if self.session else None, sha256=event.sha256,
        )  # fmt: skip

    def _goal_value(self, step: int, value: float) -> None:
        if math.isfinite(value):
            self._goals.append((step, value))
            self._goal_best = self._better(self._goal_best, (value, step))

    def _better(self, best: tuple[float, int] | None, new: tuple[float, int]) -> tuple[float, int]:
        if best is None:
            return new
        higher = self.goal is not None and self.goal[1] == "higher"
        return new if (new[0] > best[0] if higher else new[0] < best[0]) else best

    def _loss(self, step: int, value: float) -> None:
        if self._slope and step < self._slope[-1][0]:
            self._slope.clear()
        if not self._slope or step - self._slope[-1][0] >= self._slope_every:
            self._slope.append((step, value))
            if len(self._slope) == SLOPE_POINTS:
                # The window grows with the run, to a tenth of it, so that a day's slope is not read off three seconds.
                self._slope_every = max(1, step // (10 * SLOPE_POINTS))

    def _restored(self, event: events.Restored) -> None:
        self.step, self.branch = event.step, event.branch
        self.rate.clear()
        self._slope.clear()
        self.parents[event.branch] = (event.from_branch, event.step)
        self._goals_until(event.step)

    def _goals_until(self, last: int) -> None:
        """What came after that step is on the present line no more."""
        self._goals = deque((g for g in self._goals if g[0] <= last), maxlen=self._goals.maxlen)
        self._goal_best = None
        for step, value in self._goals:
            self._goal_best = self._better(self._goal_best, (value, step))


def _means(points: list[tuple[int, float]]) -> tuple[float, float]:
    n = len(points)
    return sum(s for s, _ in points) / n, sum(v for _, v in points) / n
