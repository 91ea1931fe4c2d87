"""``[checkpoints] after``: which checkpoints it is still to be run for, and what became of it, in the logbook."""

from collections import deque
from pathlib import Path

from sitter.actions.after import LOG, After, Outcome
from sitter.clock import Clock, human
from sitter.control.core import Core
from sitter.model import CheckpointInfo
from sitter.store.reader import Reader

RAN = "after_ran"
"""Kept in the history: path → time of each checkpoint that it was run or left out for, of those that are there. (By the time alone it would
wait for hours after the clock was turned back.)"""
RUNS = "after_runs"
"""Kept in the history: step and branch of the checkpoint that it runs for."""
MOST_WAITING = 3


class AfterCheckpoint:
    """Looks once a second for new verified checkpoints; also those that were written while nobody watched."""

    def __init__(self, core: Core, reader: Reader, clock: Clock) -> None:
        config = core.config.checkpoints
        self._core, self._clock, self._command = core, clock, config.after
        self._ran: dict[str, float | None] = dict(reader.get(RAN) or {})
        self._cut_short: list[int] | None = reader.get(RUNS)
        self._ended: deque[Outcome] = deque()
        self._after = After(config.after, core.run.path, config.after_timeout, self._ended.append)
        self._timeout = config.after_timeout

    @property
    def busy(self) -> bool:
        """Whether one runs, or waits."""
        return bool(self._command) and (self._after.busy or bool(self._ended) or bool(self._waiting()))

    def tick(self) -> None:
        """Tell of one that has ended, begin with the next."""
        if not self._command:
            return
        if self._cut_short is not None:
            self._tell_cut_short(*self._cut_short)
        while self._ended:
            self._tell(self._ended.popleft())
        if self._after.busy:
            return
        waiting = self._waiting()
        if len(waiting) > MOST_WAITING:
            over, waiting = waiting[:-MOST_WAITING], waiting[-MOST_WAITING:]
            self._remember(over)
            detail = f"left out for {len(over)} older checkpoints: it takes longer than they come"
            self._core.log_entry("command", action="after", status="skipped", detail=detail)
        if not waiting:
            return
        info = waiting[0]
        self._remember([info])
        self._core.keep(RUNS, [info.step, info.branch])
        self._after.start(
            (self._core.run.path / info.path).resolve(), step=info.step, branch=info.branch, nbytes=info.bytes, sha256=info.sha256
        )

    def _waiting(self) -> list[CheckpointInfo]:
        known, nothing = self._core.present.checkpoints.values(), object()
        found = [c for c in known if c.verified and self._ran.get(c.path, nothing) != c.time]
        return sorted((c for c in found if Path(self._core.run.path / c.path).exists()), key=lambda c: (c.branch, c.step))

    def _remember(self, ran: list[CheckpointInfo]) -> None:
        there = self._core.present.checkpoints
        self._ran = {path: at for path, at in self._ran.items() if path in there} | {c.path: c.time for c in ran}
        self._core.keep(RAN, self._ran)

    def _tell_cut_short(self, step: int, branch: int) -> None:
        """It has a session of its own, and may well have come to its end without us."""
        self._cut_short = None
        self._core.keep(RUNS, None)
        detail = f"the daemon that waited for it ended before it did, so how it ended is not known; what it said is in {LOG}"
        self._core.log_entry("outcome", step=step, branch=branch, action=f"after: {self._command}", status="unanswered", detail=detail)

    def _tell(self, ended: Outcome) -> None:
        self._core.keep(RUNS, None)
        took, said = human(ended.seconds), f": {ended.said}" if ended.said else ""
        if ended.code == 0:
            status, detail = "applied", f"done in {took}{said}"
        elif ended.code is None:
            hung = ended.seconds >= self._timeout
            status, detail = "failed", f"ended after {took}, which is as long as it may take (after_timeout){said}" if hung else ended.said
        else:
            status, detail = "failed", f"exit code {ended.code} after {took}{said}"
        more = "" if ended.code == 0 else f"; all it said is in {LOG}"
        self._core.log_entry(
            "outcome", step=ended.step, branch=ended.branch, action=f"after: {self._command}", status=status,
            detail=f"the after command: {detail}{more}",
        )
