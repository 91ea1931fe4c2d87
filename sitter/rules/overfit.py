"""The goal gets worse while the training loss still falls: the model learns its training data by heart."""

import math
from typing import ClassVar

from sitter.model import Finding, Proposable
from sitter.rules.base import RuleParams
from sitter.rules.cases.drift import OVERFIT_FIRES, OVERFIT_QUIET
from sitter.rules.course import FromBest, Noise
from sitter.rules.memory import Memory
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Stop

EVALUATIONS = 5
"""Whose medians are compared."""


class _Memory(Memory):
    """Both signals, as often as the goal is logged, on this line of branches. Log scale, lower is better."""

    def __init__(self) -> None:
        self.goal, self.train, self.noise = FromBest(EVALUATIONS), FromBest(EVALUATIONS), Noise()
        self.sum, self.count = 0.0, 0  # training losses since the goal was logged last
        self.train_then = 0.0  # where the training loss stood when the goal was best
        self.best_step = 0
        self.best: float | None = None  # the goal then, as it was logged
        self.in_a_row = 0


class Overfit(TroubleRule):
    """The goal has become 5 % worse than its best, and the training loss is still falling.

    Compared are medians of 5 evaluations, and the mean training loss between them; three times in a row, and clear of the goal's own
    noise. The goal is what you named at start, else the validation loss. Both must be positive. Where the training loss rises too it is
    no overfitting, see ``divergence``; a training loss below or above the validation loss by itself means nothing (dropout, mixup).

    It proposes to stop with a checkpoint, and asks first: a goal that has been worse for a while may yet become better when the rate
    comes down. The best checkpoint by the goal is kept in any case. On 291 published healthy logs it says nothing, and it sees all 33
    that overfit: ``tests/benchmarks/judgement.py``.
    """

    name: ClassVar[str] = "overfit"
    title: ClassVar[str] = "overfitting"
    default_mode = "ask"
    default_limit: ClassVar[str] = "1 per day"
    FIRES = OVERFIT_FIRES
    QUIET = OVERFIT_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        worse: float = 1.05
        """The goal stands so many times from its best, to the worse."""
        z: float = 6.0
        """And so many standard deviations of such a median."""
        training: float = 0.98
        """The training loss stands at most at so many times where it stood when the goal was best."""
        evaluations: int = 3
        """In a row."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._worse, self._falls = math.log(self.params.worse), -math.log(self.params.training)

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        values, m = sample.values, self.memory
        loss = values.get("loss")
        if loss is not None and 0.0 < loss < math.inf:
            m.sum += math.log(loss)
            m.count += 1
        name = view.goal or "val_loss"
        goal = values.get(name)
        if goal is None or name == "loss" or not 0.0 < goal < math.inf or not m.count or view.kind in ("rl", "gan"):
            return None
        lower = view.goal is None or view.better == "lower"
        y = math.log(goal) if lower else -math.log(goal)
        m.noise.push(sample.step, y)
        m.goal.push(y)
        m.train.push(m.sum / m.count)
        m.sum, m.count = 0.0, 0
        train, worse = m.train.now, m.goal.rise
        if train is None:
            return None
        if worse is None or worse <= 0.0:
            m.train_then, m.best_step, m.best, m.in_a_row = train, sample.step, goal, 0
            return self.ends(f"the goal is better than ever at step {sample.step:,}", sample)
        p = self.params
        is_so = worse > self._worse and worse > p.z * m.goal.blur * m.noise.middle and m.train_then - train > self._falls
        m.in_a_row = m.in_a_row + 1 if is_so else 0
        if m.in_a_row < p.evaluations or self.trouble:
            return None
        return self._found(sample, name, worse, m.train_then - train)

    def _found(self, sample: Sample, name: str, worse: float, falls: float) -> Finding:
        m = self.memory
        text = (
            f"{name} {math.expm1(worse):.0%} worse than its best ({m.best:.4g} at step {m.best_step:,}), and the training loss "
            f"{-math.expm1(-falls):.0%} lower than then: overfitting"
        )
        actions: list[Proposable] = [Stop(checkpoint=True, why=text)]
        return self.says(
            "warning", text, sample, onset=m.best_step, actions=actions,
            evidence={
                "worse": math.expm1(worse), "training": -math.expm1(-falls), "best": m.best, "best_step": m.best_step,
                "z": worse / (m.goal.blur * m.noise.middle),
            },
        )  # fmt: skip
