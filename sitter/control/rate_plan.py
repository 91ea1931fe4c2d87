"""One plan for a knob: what is still to follow a change by a rule, and how far it has come."""

import math

import msgspec

STAGES = 10
"""Raises of a warm-up after its first, low one."""
FIRST_SHARE = 0.1
"""Of the new level, with which a warm-up begins; more where the knob's bound is higher."""
CLOSE = 1e-3
"""A share that differs by less from a stage's is that stage's."""
BACK, UNDO = -1, -2
"""In place of a stage: what was changed is given back; what was on its way as the operator changed the knob is taken back."""


class Plan(msgspec.Struct, kw_only=True):
    """One change, and what is still to follow it. All that is done multiplies, so that what others do to the knob meanwhile stays."""

    key: str
    rule: str
    knob: str
    group: str | None
    step: int
    old: float
    new: float
    warmup: int
    stages: int
    first: float
    stage: int = 0
    """The next one of the warm-up to ask for; beyond ``stages``: all were."""
    reached: int = -1
    """The last one that was applied."""
    anchor: int
    """The step from which the warm-up's are counted."""
    share: float = 1.0
    """Of the new level, at which the knob stands."""
    back_after: int
    back: float
    since: tuple[int, int]
    """(branch, step) from which healthy steps are counted."""
    asked: list[int] = []
    """The stages that are on their way."""
    moved: bool = False
    """The training went back while they were: they will be rejected, and are asked for again."""
    over: str = ""
    """Why nothing more is to be done, once the answer to that is there."""
    by_hand: bool = False
    """It is over by the operator's hand, so what was on its way is taken back."""
    outdone: bool = False
    session: str = ""
    """The process in which ``share`` holds. Another one goes on from a checkpoint, with what the knob was then."""
    scale: float | None = None
    """The knob's scale at the new level; None: not known."""
    finished: bool = False
    """All of it was done. It is remembered for a process that goes on from a checkpoint of before that."""

    @property
    def change(self) -> str:
        """``lr 0.1 → 0.05``."""
        return f"{self.knob} {self.old:g} → {self.new:g}"

    @property
    def warming(self) -> bool:
        """The warm-up is not over."""
        return self.reached < self.stages

    def due(self, stage: int) -> int:
        """The step of a stage."""
        return self.anchor + self.warmup * stage // max(1, self.stages)

    def share_at(self, stage: int) -> float:
        """Of the new level, linear over the stages."""
        return self.first + (1.0 - self.first) * stage / max(1, self.stages)

    def goes_on_at(self, share: float, branch: int, step: int) -> bool:
        """In another process, in which the knob stands at so much of the new level; False where that is none of its stages."""
        at = [stage for stage in range(self.stages) if math.isclose(share, self.share_at(stage), rel_tol=CLOSE)]
        at = [self.stages] if math.isclose(share, 1.0, rel_tol=CLOSE) else at
        if not at:
            return False
        self.reached, self.stage, self.share = at[0], at[0] + 1, share
        self.anchor = step - (self.warmup * at[0] // max(1, self.stages))
        self.since, self.asked, self.moved, self.finished = (branch, step), [], False, False
        return True
