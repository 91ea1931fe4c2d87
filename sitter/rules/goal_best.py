"""The goal is better than ever again, after a long time without."""

from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import Rule, RuleParams
from sitter.rules.cases.goal import BEST_FIRES, BEST_QUIET
from sitter.rules.goal_course import EVALUATIONS, GoalCourse, goal_of
from sitter.rules.view import RunView, Sample


class GoalBest(Rule):
    """The goal has a new best after a long stretch without one: whatever was done last, it was worth its while.

    Long is 20 evaluations and a fifth of the run so far. Better is the median of 3 evaluations, by more than chance would have it. The
    goal is what you named at start, else the validation loss; it may have any sign. It proposes nothing: the best checkpoint by the
    goal is kept in any case.
    """

    name: ClassVar[str] = "goal_best"
    title: ClassVar[str] = "goal better than ever"
    default_mode = "watch"
    FIRES = BEST_FIRES
    QUIET = BEST_QUIET
    remembers = GoalCourse
    memory: GoalCourse

    class Params(RuleParams, frozen=True):
        """What is a long time."""

        evaluations: int = 20
        """Without a better one …"""
        share: float = 0.2
        """… and such a share of the steps so far."""

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        if (view.goal or "val_loss") not in sample.values:
            return None
        found = goal_of(sample, view)
        assert found is not None
        m, (name, value, higher) = self.memory, found
        waited = m.push(sample.step, value, higher)
        if waited is None or waited[0] < self.params.evaluations or m.record_before is None or m.first_step is None or m.best is None:
            return None
        (evaluations, since), (before, before_step) = waited, m.record_before
        if m.since_record >= EVALUATIONS or sample.step - since < self.params.share * (sample.step - m.first_step):
            return None
        text = f"{name} {m.best:.4g} at step {m.best_step:,}: better than ever after {evaluations} evaluations without"
        return self.found(
            "info", f"{text} (was {before:.4g} at step {before_step:,})", step=sample.step, branch=sample.branch, onset=m.best_step,
            key=f"{self.name}:{sample.branch}:{m.best_step}",
            evidence={"best": m.best, "before": before, "evaluations": evaluations, "steps": sample.step - since},
        )  # fmt: skip
