"""The goal has not been better for long, and nothing is to come that would change it."""

from typing import ClassVar

from sitter.model import Finding, Proposable
from sitter.rules.base import RuleParams
from sitter.rules.cases.goal import STOP_FIRES, STOP_QUIET
from sitter.rules.goal_course import GoalCourse, goal_of
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Stop


class _Course(GoalCourse):
    """With the rate at the two newest evaluations that were the 1st, 2nd, 4th, 8th… without a better one: the earlier lies in the second
    quarter of them."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = 0.0, 0.0


class EarlyStop(TroubleRule):
    """The goal has not been better for 10 evaluations and for half of the run so far: what is left of it may be for nothing.

    Better is the median of 3 evaluations, by more than chance would have it: Lightning's three single evaluations are over before a
    noisy goal has said anything. The goal is what you named at start, else the validation loss; it may have any sign. Where the end
    is known and the rate is still above half of the highest it has been, or still on its way down, it says nothing until 90 % of the steps
    are done, since a rate that comes down usually makes the goal better; nor in the first fifth of the steps.

    It proposes to stop with a checkpoint, and asks first; a new best withdraws it, and it begins anew when the rate is changed by hand.
    On 291 published healthy logs it never asks, on 95 troubled ones it does in half: ``tests/benchmarks/judgement.py``.
    """

    name: ClassVar[str] = "early_stop"
    title: ClassVar[str] = "goal gets no better"
    default_mode = "ask"
    default_limit: ClassVar[str] = "1 per day"
    FIRES = STOP_FIRES
    QUIET = STOP_QUIET
    remembers = _Course
    memory: _Course

    class Params(RuleParams, frozen=True):
        """When."""

        patience: int = 10
        """Evaluations without a better one …"""
        share: float = 0.5
        """… and such a share of the steps so far."""
        done: float = 0.2
        """Of all steps, where their number is known: nothing before that."""
        high: float = 0.5
        """Of the highest rate there was: above it is high."""
        falls: float = 0.1
        """By such a share a rate that is on its way down has fallen in the latter half of that time. Where the end is known, until …"""
        end: float = 0.9
        """… such a share of all steps is done."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._highest = self._rate = 0.0

    def rate_changed(self, step: int) -> None:
        """It may yet become better."""
        self.memory.since, self.memory.last_better = 0, step

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        values = sample.values
        rate = values.get("lr_scheduled")
        if rate is not None:
            self._rate = rate
            if rate > self._highest:
                self._highest = rate
        if (view.goal or "val_loss") not in values:
            return None
        found = goal_of(sample, view)
        assert found is not None
        m, p, (name, value, higher) = self.memory, self.params, found
        step = sample.step
        if m.push(step, value, higher) is not None:
            m.rates = self._rate, self._rate
            return self.ends(f"{name} is better than ever at step {step:,}", sample)
        if m.since & (m.since - 1) == 0:
            m.rates = m.rates[1], self._rate
        since = step - m.last_better
        if self.trouble or m.since < p.patience or m.first_step is None or since < p.share * (step - m.first_step) or m.best is None:
            return None
        total = view.total
        to_come = self._rate > p.high * self._highest or self._rate < (1.0 - p.falls) * m.rates[0]
        if total and (step < p.done * total or (to_come and step < p.end * total)):
            return None
        clearly, chance = ("clearly ", " by chance") if m.best_step > m.last_better else ("", "")
        text = f"{name} {clearly}no better for {m.since} evaluations ({since:,} steps): best {m.best:.4g}{chance} at step {m.best_step:,}"
        actions: list[Proposable] = [] if view.late else [Stop(checkpoint=True, why=text)]
        return self.says(
            "info", text, sample, onset=m.last_better, actions=actions,
            evidence={"best": m.best, "best_step": m.best_step, "evaluations": m.since, "steps": since},
        )  # fmt: skip
