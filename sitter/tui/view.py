"""What the screens know: the last answers, and what the operator is about to do. Written by the app only, read by every panel."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from sitter.clock import Clock
from sitter.model import Curve, Curves, LogEntry, Proposal, RuleState, Since, Status
from sitter.tui.chart import Axis, Y
from sitter_wire.layer_names import of_layer
from sitter_wire.queries import AnyQuery

DeedStatus = Literal["sent", "applied", "rejected", "expired", "unanswered", "refused"]
SEVERITIES = ("critical", "warning", "info")
AGENT_SILENT_S = 5.0
"""Pings go out once a second; five without an answer are worth a word."""


@dataclasses.dataclass
class Deed:
    """Something the operator asked for, and what became of it as the agent said. ``refused``: asked in a wrong way, nothing tried."""

    words: str
    sent: float
    status: DeedStatus = "sent"
    text: str = ""
    step: int | None = None
    ended: float | None = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """One answer to a question: its key, what it says, and what is then asked of the daemon."""

    key: str
    label: str
    queries: Sequence[AnyQuery]


@dataclasses.dataclass(frozen=True)
class Question:
    """A confirmation in the strip. Escape leaves everything as it is."""

    text: str
    choices: Sequence[Choice]


@dataclasses.dataclass
class View:
    """``None`` is "not known yet" everywhere. ``since_shown``: the lines about the time away are on the screen."""

    run_name: str
    clock: Clock
    ascii: bool = False
    ref: Sequence[Curve] = ()
    status: Status | None = None
    status_at: float | None = None
    lost_since: float | None = None
    curves: Curves | None = None
    multiples: Curves | None = None
    entries: list[LogEntry] = dataclasses.field(default_factory=list)
    rules: list[RuleState] | None = None
    since: Since | None = None
    since_shown: bool = False
    train_log: Sequence[str] | None = None
    trouble: str = ""
    deeds: list[Deed] = dataclasses.field(default_factory=list)
    question: Question | None = None
    proposal_at: int = 0
    command_hint: str = ""
    command_wrong: bool = False
    find: str = ""
    axis: Axis = "step"
    y: Y = "recent"
    band: bool = True
    span: float | None = None
    end: float | None = None
    multiple_at: int = 0
    enlarged: str | None = None
    gpu_history: dict[str, list[float | None]] = dataclasses.field(default_factory=dict)

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.clock.wall()

    @property
    def proposal(self) -> Proposal | None:
        """The one in the strip: what falls due first stands first."""
        waiting = self.proposals
        return waiting[min(self.proposal_at, len(waiting) - 1)] if waiting else None

    @property
    def proposals(self) -> list[Proposal]:
        """All that wait, the most urgent first: by when it falls due; of those that wait for an answer the gravest, then the oldest."""
        found = self.status.proposals if self.status else []
        return sorted(found, key=lambda p: (p.due is None, p.due or SEVERITIES.index(p.finding.severity), p.made))

    @property
    def main_signal(self) -> str:
        """What the chart shows with its band: the loss, else the goal, else whatever there is."""
        known = self.status.signals if self.status else {}
        goal = self.status.goal.name if self.status and self.status.goal else None
        for name in ("loss", goal):
            if name and name in known:
                return name
        return next((n for n in known if not n.startswith(("gpu", "lr")) and not of_layer(n)), "loss")

    @property
    def goal_signal(self) -> str | None:
        """What the chart shows above it: the goal, or the validation loss where the goal is the loss."""
        status = self.status
        if status is None:
            return None
        if status.goal and status.goal.name != self.main_signal:
            return status.goal.name
        return "val_loss" if "val_loss" in status.signals and self.main_signal != "val_loss" else None

    @property
    def per_epoch(self) -> float | None:
        """Steps in an epoch, where the training counts so."""
        s = self.status
        return s.step / s.epoch if s and s.step and s.epoch else None
