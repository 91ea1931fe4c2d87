"""What a run can go on from, read from its own files: for ``sitter resume``, and for the small parent of a training that has just died.

The parent runs ``python -m sitter.cli.again --since STARTED MONO --not SESSION RUN_DIR`` (unix and monotonic seconds of the start, the
newest session before it) and reads one line of JSON: ``end`` (crashed, stopped, preempted), ``step`` (reached in the session that began
since then, null where there was none), ``steps_known``, ``path`` (empty: from the start) and ``said``. No daemon is needed: what it has not
stored yet is read from the recorder.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Literal

import msgspec

from sitter.client import Client
from sitter.control.present import NOTICE_S
from sitter.errors import SitterError
from sitter.ingest import files
from sitter.locks import holder
from sitter.model import CheckpointInfo
from sitter.offline import Offline
from sitter.store.lines import Stretch, line
from sitter.store.reader import Reader
from sitter.supervise.checkpoint import unannounced, why_not_whole
from sitter_wire import events
from sitter_wire.places import RunDir
from sitter_wire.queries import Settle
from sitter_wire.records import Happening, Point, Record

End = Literal["crashed", "stopped", "preempted"]
CLOCKS_S = 1.0
"""A session's start and its process's start are read from the same clock, by two processes."""


class Past:
    """What the history and the recorder's files say together. Raises SitterError where neither can be read."""

    def __init__(self, run: RunDir) -> None:
        self.session: str | None = None
        self.began: tuple[float, float] | None = None
        """(Unix, monotonic) seconds."""
        self.step: int | None = None
        self.goodbye: str | None = None
        self.preempted: float | None = None
        """Seconds of the record that says so, on the session's clock."""
        self.stopped_session: str | None = None
        self.stopped_process: float | None = None
        self.ended_by_rule: str | None = None
        self.ever: bool = False
        """Whether any session ever told a step."""
        self._run = run
        self._parents: dict[int, tuple[int | None, int | None]] = {}
        self._checkpoints: dict[str, CheckpointInfo] = {}
        self._settle()
        known = self._from_history()
        self._from_files(known)
        self._checkpoints |= {c.path: c for c in unannounced(run.checkpoints, self._checkpoints)}

    @property
    def end(self) -> End:
        """How the newest session ended, given that its process ended and not well."""
        if self.session is not None and self.session in (self.stopped_session, self.ended_by_rule):
            return "stopped" if self.session == self.stopped_session else "crashed"
        if self.goodbye == "stopped":
            return "stopped"
        return "preempted" if self.preempted is not None and self.goodbye != "total" else "crashed"

    def line(self) -> list[Stretch]:
        """The present line of branches."""
        return line(self._parents)

    def checkpoints(self) -> list[CheckpointInfo]:
        """Those on the present line, paths absolute."""
        present = self.line()
        return [
            msgspec.structs.replace(c, path=str(self._run.path / c.path)) for c in self._checkpoints.values() if on_line(c, present)
        ]

    # -- reading -----------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Let what was logged reach the history, by whoever can do that. What cannot be is read from the files."""
        if holder(self._run.daemon_lock) is None:
            with contextlib.suppress(SitterError, OSError):
                Offline(self._run).close()
            return
        client = Client(self._run)
        with contextlib.suppress(SitterError):
            client.ask(Settle(), 3.0)
        client.close()

    def _from_history(self) -> dict[str, int]:
        """session → last sequence that the history has."""
        if not self._run.history.exists():
            return {}
        reader = Reader(self._run.history)
        try:
            sessions = reader.sessions()
            self._parents = {b.branch: (b.parent_branch, b.parent_step) for b in reader.branches()}
            self._checkpoints = {c.path: c for c in reader.checkpoints()}
            self.stopped_session, self.stopped_process = reader.get("stopped_session"), reader.get("stopped_process")
            self.ended_by_rule = reader.get("ended_by_rule")
            tail = reader.tail(1)
            self.ever = bool(tail)
            if sessions:
                last = sessions[-1]
                self._new(last.session, (last.wall_ns / 1e9, last.mono_ns / 1e9))
                for stored in reader.events(["goodbye", "preempted"]):
                    if stored.session == last.session:
                        self._end_of(stored.happening)
                if tail and tail[-1].session == last.session:
                    self._stepped(tail[-1].step, tail[-1].time / 1e9)
            return {s.session: s.last_seq for s in sessions}
        finally:
            reader.close()

    def _from_files(self, known: dict[str, int]) -> None:
        for folder in files.sessions(self._run.recorder):
            for segment in files.read(folder, known.get(folder.name, 0)):
                if folder.name not in known and folder.name != self.session:
                    self._new(folder.name, (segment.header.wall_ns / 1e9, segment.header.mono_ns / 1e9))
                for record in segment.records:
                    self._record(folder.name, record)

    def is_of(self, started: tuple[float, float], before: str) -> bool:
        """Whether the newest session is of a process that was started at these (unix, monotonic) seconds, when ``before`` was the newest.
        By the monotonic clock where the other was turned back meanwhile."""
        if self.session in (None, before) or self.began is None:
            return False
        return any(began >= at - CLOCKS_S for began, at in zip(self.began, started, strict=True))

    def _new(self, session: str, began: tuple[float, float]) -> None:
        self.session, self.began, self.step, self.goodbye, self.preempted = session, began, None, None, None

    def _record(self, session: str, record: Record) -> None:
        if isinstance(record, Happening):
            self._event(record, newest=session == self.session)
        elif isinstance(record, Point):
            self.ever = True
            if session == self.session:
                self._stepped(record.step, record.time / 1e9)

    def _stepped(self, step: int, at: float) -> None:
        self.step = step
        if self.preempted is not None and at - self.preempted > NOTICE_S:
            self.preempted = None

    def _event(self, happening: Happening, *, newest: bool) -> None:
        event = happening.event
        if isinstance(event, events.SessionStart):
            self._parents[event.branch] = event.resumed or (None, None)
        elif isinstance(event, events.Restored):
            self._parents[event.branch] = (event.from_branch, event.step)
        elif isinstance(event, events.CheckpointWritten):
            self._checkpoints[event.path] = CheckpointInfo(
                branch=event.branch, step=event.step, path=event.path, bytes=event.bytes, good=False, verified=event.verified,
                pinned=event.pinned, sha256=event.sha256,
            )  # fmt: skip
        elif isinstance(event, events.CheckpointRemoved):
            self._checkpoints.pop(event.path, None)
        elif newest:
            self._end_of(happening)

    def _end_of(self, happening: Happening) -> None:
        if isinstance(happening.event, events.GoodBye):
            self.goodbye = happening.event.how
        elif isinstance(happening.event, events.Preempted):
            self.preempted = happening.time / 1e9


def choose(checkpoints: list[CheckpointInfo], *, orderly: bool = False) -> CheckpointInfo | None:
    """The newest good one, else the newest verified one. ``orderly``: the training was well when it ended, as at a stop or a pre-emption
    notice; then the newest verified one, which was most often written just for this."""
    verified = [c for c in checkpoints if c.verified]
    return max((not orderly and [c for c in verified if c.good]) or verified, key=lambda c: (c.branch, c.step), default=None)


def choose_whole(checkpoints: list[CheckpointInfo], *, orderly: bool = False) -> tuple[CheckpointInfo | None, list[str]]:
    """The same, read whole and compared with its hash; and a sentence for each that was passed over. Reads gigabytes."""
    left, damaged = list(checkpoints), list[str]()
    while (chosen := choose(left, orderly=orderly)) is not None and (why := why_not_whole(chosen)):
        damaged.append(why)
        left.remove(chosen)
    return chosen, damaged


def on_line(checkpoint: CheckpointInfo, present: list[Stretch]) -> bool:
    """Whether it lies on this line of branches, and not on what a restore left behind."""
    return any(s.branch == checkpoint.branch and (s.to is None or checkpoint.step <= s.to) for s in present)


def described(chosen: CheckpointInfo | None, damaged: list[str]) -> str:
    """``from step 5,000 (good)``."""
    over = "".join(f"; passed over: {why}" for why in damaged)
    if chosen is None:
        return f"from the start, since there is no verified checkpoint{over}"
    return f"from step {chosen.step:,} ({'good' if chosen.good else 'verified, not yet called good'}){over}"


def main() -> None:
    """See the module's text."""
    _, since, mono, _, before, path = sys.argv[1:]
    run = RunDir(Path(path))
    try:
        run.path.stat()  # of a directory that was moved, or whose disk is gone, nothing can be learned: not even that it has no checkpoint
        past = Past(run)
        mine = past.is_of((float(since), float(mono)), before)
        end = "stopped" if past.stopped_process == float(since) else past.end if mine else "crashed"
        chosen, damaged = choose_whole(past.checkpoints()) if end == "crashed" else (None, [])
    except (SitterError, OSError) as e:
        sys.exit(f"sitter: {e}")
    told = {
        "end": end, "step": past.step if mine else None, "steps_known": past.ever,
        "path": chosen.path if chosen is not None else "", "said": described(chosen, damaged),
    }  # fmt: skip
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
