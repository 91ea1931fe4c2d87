"""Checkpoints, often enough."""

from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import Case, Rule, RuleParams, Tick
from sitter.rules.view import RunView
from sitter_wire.commands import TakeCheckpoint
from sitter_wire.events import CheckpointFailed, CheckpointWritten, SessionStart
from sitter_wire.records import Happening

WRITING_SHARE = 0.02
"""Of the time may be spent writing: a checkpoint that takes a minute to write is not written every half hour."""

STARTED: dict[str, object] = {"started": 0.0}


def _written(at: float, seconds: float = 1.0) -> Happening:
    event = CheckpointWritten(branch=0, step=1, path="c", bytes=1, sha256="", verified=True, cleared=True, seconds=seconds)
    return Happening(seq=1, step=1, branch=0, time=int(at * 1e9), event=event)


def _ticks(first: int, last: int, **facts: object) -> list[Tick]:
    return [Tick(float(t), dict(facts)) for t in range(first, last, 10)]


class CheckpointCadence(Rule):
    """Half an hour has passed since the last checkpoint: time for the next; the first comes after five minutes.

    It is written from a snapshot that healthy steps have followed, by a thread of its own, so that training does not wait. Writing may
    take 2 % of the time: where one checkpoint takes long, they come further apart. What was refused or failed is tried again after a
    sixth of the interval.
    """

    name: ClassVar[str] = "checkpoint_cadence"
    title: ClassVar[str] = "time for a checkpoint"
    default_mode = "act"

    class Params(Rule.Params, frozen=True):
        """How often."""

        minutes: float = 30.0
        """Between two checkpoints."""
        first_minutes: float = 5.0
        """From the start of a session to its first."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._last: float | None = None
        self._asked: float | None = None
        self._seconds = 0.0
        self._times = 0

    def happened(self, happening: Happening, view: RunView) -> None:
        """Any checkpoint counts, whoever asked for it."""
        event = happening.event
        if isinstance(event, CheckpointWritten):
            self._last, self._asked, self._seconds = happening.time / 1e9, None, event.seconds
        elif isinstance(event, CheckpointFailed):
            self._asked = happening.time / 1e9
        elif isinstance(event, SessionStart):
            self._last = self._asked = None

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Every second; nothing while the training stands."""
        if not view.in_session or view.paused or view.state != "running" or view.started is None:
            return None
        every = max(self.params.minutes * 60.0, self._seconds / WRITING_SHARE)
        due = view.started + self.params.first_minutes * 60.0 if self._last is None else self._last + every
        if self._asked is not None:
            due = max(due, self._asked + every / 6.0)
        if now < due:
            return None
        self._asked = now
        self._times += 1
        since = now - (view.started if self._last is None else self._last)
        return self.found(
            "info", f"{since / 60.0:.0f} min since the {'start' if self._last is None else 'last checkpoint'}", step=view.step or 0,
            branch=view.branch, evidence={"seconds": since}, actions=[TakeCheckpoint(why="cadence", cleared=True)],
            key=f"{self.name}:{view.started:.0f}:{self._times}",
        )  # fmt: skip

    FIRES = (
        Case("five minutes after the start", lambda: _ticks(0, 320), says="5 min", acts=True, view=STARTED),
        Case("half an hour after the last", lambda: [_written(100.0), *_ticks(100, 2000)], says="30 min", acts=True, view=STARTED),
    )
    QUIET = (
        Case("the first minutes", lambda: _ticks(0, 290), view=STARTED),
        Case("somebody has just asked for one", lambda: [_written(290.0), *_ticks(290, 2000)], view=STARTED),
        Case("it takes a minute to write", lambda: [_written(0.0, 60.0), *_ticks(0, 2900)], view=STARTED),
        Case("paused", lambda: _ticks(0, 9000, paused=True), view=STARTED),
    )
