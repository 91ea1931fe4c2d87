"""How long it is since the goal was better than ever, and clearly so: what ``goal_best`` and ``early_stop`` go by."""

import math

from sitter.rules.course import FromBest, Noise
from sitter.rules.memory import Memory
from sitter.rules.view import RunView, Sample

EVALUATIONS = 3
"""Whose median is taken."""

CLEARLY = 1.0
"""Standard deviations of such a median by which it must be better: chance alone makes new bests for ever, ever smaller ones."""


class GoalCourse(Memory):
    """The best median of 3 evaluations, and what passed since. Any sign, any direction: lower is better inside."""

    def __init__(self) -> None:
        self.noise, self.risen = Noise(0.0), FromBest(EVALUATIONS)
        self.reference = math.inf  # the median that must be beaten
        self.best: float | None = None  # the best single evaluation, as it was logged
        self.best_step = 0
        self.record_before: tuple[float, int] | None = None  # the best single evaluation before the newest record, and its step
        self.since_record = 0  # evaluations since then
        self.last_better = 0  # step at which the reference was beaten last
        self.first_step: int | None = None
        self.since = 0  # evaluations since then
        self.count = 0

    def push(self, step: int, value: float, higher: bool) -> tuple[int, int] | None:
        """One more evaluation. Clearly better than ever: how many evaluations it was since the last time, and the step of that."""
        if not math.isfinite(value):
            return None
        if self.first_step is None:
            self.first_step = self.last_better = step
        self.count += 1
        self.since += 1
        y = -value if higher else value
        self.since_record += 1
        if self.best is None or y < (-self.best if higher else self.best):
            if self.best is not None and self.since_record >= EVALUATIONS:
                self.record_before = self.best, self.best_step
            self.best, self.best_step, self.since_record = value, step, 0
        self.noise.push(step, y)
        self.risen.push(y)
        now = self.risen.now
        if now is None or now >= self.reference - CLEARLY * self.risen.blur * self.noise.middle:
            return None
        waited = self.since, self.last_better
        self.reference, self.since, self.last_better = now, 0, step
        return waited


def goal_of(sample: Sample, view: RunView) -> tuple[str, float, bool] | None:
    """The goal's name and value, and whether higher is better; None: not logged here. Where none was named, the validation loss."""
    name = view.goal or "val_loss"
    value = sample.values.get(name)
    return None if value is None else (name, value, view.goal is not None and view.better == "higher")
