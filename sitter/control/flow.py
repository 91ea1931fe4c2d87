"""The way of a record through the daemon: history, present, rules, dispatcher. Values and events in the order they were made."""

import logging
from collections.abc import Callable, Collection

from sitter.clock import Clock
from sitter.control.damaged_records import DamagedRecords
from sitter.control.dispatcher import Dispatcher
from sitter.control.incidents import Incidents
from sitter.control.orders import Orders
from sitter.control.present import Present, Session
from sitter.control.unknown_events import UnknownEvents
from sitter.grammar import spelled
from sitter.model import EntryKind, Finding, LogEntry
from sitter.rules.base import gave_up, recovered
from sitter.rules.engine import Engine
from sitter.rules.view import Sample
from sitter.store.writer import Writer
from sitter_wire import events
from sitter_wire.commands import Command, Outcome, Rollback
from sitter_wire.records import Happening, Point, Record
from sitter_wire.rundir import RunInfo

log = logging.getLogger(__name__)

LATE_S = 2.0
"""Older records are the past: findings on them are written down and propose nothing."""


class Flow:
    """Feeds every stage; the stages do not know each other."""

    def __init__(
        self,
        *,
        info: RunInfo,
        clock: Clock,
        writer: Writer,
        present: Present,
        engine: Engine,
        dispatcher: Dispatcher,
        incidents: Incidents,
        orders: Orders,
        log_entry: Callable[..., None],
        on_event: Callable[[], None],
        unknown: UnknownEvents,
        damaged: DamagedRecords,
    ) -> None:
        """``on_event`` is called when the present knows of an event and the rules do not yet: what they see beside it must be as new."""
        self._info, self._clock, self._writer = info, clock, writer
        self._present, self._engine, self._dispatcher = present, engine, dispatcher
        self._incidents, self._orders, self._log = incidents, orders, log_entry
        self._on_event, self._unknown, self._damaged = on_event, unknown, damaged
        self._late = False
        """The newest record was of the past."""
        self.told: list[Callable[[Record], None]] = []
        """Who else is told of every record, after rules and dispatcher."""

    def session(self, session: str, clock: tuple[int, int] | None, pid: int = 0) -> Session:
        """The session whose records come now; made known to the history when it is new. ``clock`` in nanoseconds."""
        present = self._present
        if present.session is None or present.session.id != session:
            present.session = Session(id=session, pid=pid)
            present.last_safe_point = None  # another process's says nothing of how long this one has been at it
        known = present.session
        if known.clock is None and clock is not None and clock != (0, 0):
            known.clock = (clock[0] / 1e9, clock[1] / 1e9)
            self._writer.session(session, clock[0], clock[1], known.pid)
        return known

    def records(self, session: str, records: list[Record], *, past: bool = False) -> None:
        """Records of one session, contiguous and new. ``past``: read from the files of a process that is gone."""
        if not records:
            return
        self._writer.records(session, records)
        now = self._clock.monotonic()
        for record in records:
            if isinstance(record, Happening) and isinstance(record.event, events.DamagedRecord):
                self._damaged.passed_by(record, record.event)
                continue
            late = past or now - record.time / 1e9 > LATE_S
            if self._late and not late:
                self._late = False
                self._caught_up()
            self._late = late
            if isinstance(record, Point):
                self._point(record, late)
            else:
                self._happening(record, late)
            for tell in self.told:
                tell(record)
        if self._late and not past and now - records[-1].time / 1e9 <= LATE_S:
            self._late = False
            self._caught_up()

    def _point(self, point: Point, late: bool) -> None:
        self._present.point(point)
        sample = Sample(
            step=point.step,
            branch=point.branch,
            time=point.time / 1e9,
            values=dict(zip(point.names, point.values, strict=True)),
        )
        for finding in self._engine.observe(sample, late=late):
            self.finding(finding, late=late)

    def finding(self, finding: Finding, *, late: bool = False) -> None:
        """A finding, from a value or from the clock. One that says how a trouble ended closes its incident."""
        if recovered(finding) or gave_up(finding):
            self._over(finding)
            return
        if self._dispatcher.mode_of(finding.rule) != "off":
            known = self._incidents.total
            incident = self._incidents.found(finding)
            if incident is not None and self._incidents.total > known:
                self._log(
                    "incident",
                    step=finding.step,
                    branch=finding.branch,
                    rule=finding.rule,
                    status="open",
                    detail=finding.text,
                )
        self._dispatcher.finding(finding, late=late)

    def _over(self, finding: Finding) -> None:
        self._dispatcher.withdrawn(finding.key, "no longer true")
        verdict = "recovered" if recovered(finding) else "stayed, and is now taken for usual"
        ended = self._incidents.over(finding.rule, verdict, finding)
        if ended is None or finding.actions:
            self._dispatcher.finding(finding)

    def _caught_up(self) -> None:
        for finding in self._engine.catch_up_ended():
            self.finding(finding)

    # -- events ----------------------------------------------------------------------------------------------------------

    def _happening(self, h: Happening, late: bool) -> None:
        event = h.event
        if isinstance(event, events.Hole | events.DamagedRecord):
            return
        if isinstance(event, events.UnknownEvent):
            self._unknown.passed_by(h, event)
            return
        self._present.happening(h)
        self._on_event()
        self._engine.happened(h)
        handler = self._HANDLERS.get(type(event))
        if handler is not None:
            handler(self, h, event, late)

    def _session_start(self, h: Happening, event: events.SessionStart, late: bool) -> None:
        self._dispatcher.left_behind("another process has begun")
        for incident in self._incidents.open:
            setting = self._dispatcher.settings.get(incident.rule)
            if setting is not None and setting.guard:  # it begins anew, and will never say how this one ended
                self._incidents.over(incident.rule, "open when its process ended")
        parent = event.resumed
        wall = self._present.session.wall(h.time) if self._present.session else None
        self._writer.branch(
            event.branch,
            self._present.session.id if self._present.session else "",
            parent[0] if parent else None,
            parent[1] if parent else None,
            wall if wall is not None else self._clock.wall(),
        )
        began = f"process {event.pid} on {event.host}"
        came = f", goes on from step {parent[1]:,} of branch {parent[0]}" if parent else ""
        before = self._present  # which is of the process before this one yet
        if parent and before.branch == parent[0] and before.step is not None and before.step > parent[1]:
            came += f", which had come to step {before.step:,}"
        self._log(
            "restart" if event.branch else "note",
            step=h.step,
            branch=event.branch,
            status="started",
            detail=began + came,
            time=wall,
        )

    def _restored(self, h: Happening, event: events.Restored, late: bool) -> None:
        session = self._present.session
        wall = session.wall(h.time) if session else None
        self._writer.branch(
            event.branch,
            session.id if session else "",
            event.from_branch,
            event.step,
            wall if wall is not None else self._clock.wall(),
        )
        self._incidents.restored(event)
        self._dispatcher.left_behind(f"the training went back to step {event.step:,}")

    def _checkpoint(self, h: Happening, event: events.CheckpointWritten, late: bool) -> None:
        info = self._present.checkpoints[event.path]
        self._writer.checkpoint(info)
        words = "written and verified" if event.verified else "written, not verified"
        cost = f"{event.bytes / 1e6:.1f} MB in {event.seconds:.2f} s"
        why = f": {event.why}" if event.why else ""
        self._log(
            "checkpoint",
            step=event.step,
            branch=event.branch,
            status="verified" if event.verified else "written",
            detail=f"checkpoint {event.step} {words}, {cost}{why}",
            time=info.time,
        )

    def _checkpoint_failed(self, h: Happening, event: events.CheckpointFailed, late: bool) -> None:
        self._log("checkpoint", step=event.step, branch=event.branch, status="failed", detail=event.why, time=self._when(h, late))

    def _checkpoint_removed(self, h: Happening, event: events.CheckpointRemoved, late: bool) -> None:
        self._writer.forget_checkpoint(event.path)

    def _done(self, h: Happening, event: events.Done, late: bool) -> None:
        self.outcome(event.outcome, self._when(h, late))

    def _paused(self, h: Happening, event: events.Paused, late: bool) -> None:
        status = "paused" if event.paused else "goes on"
        self._log("note", step=h.step, branch=h.branch, status=status, detail=event.why, time=self._when(h, late))

    def _remark(self, h: Happening, event: events.Remark, late: bool) -> None:
        self._log("note", step=h.step, branch=h.branch, status=event.level, detail=event.text, time=self._when(h, late))

    def _goodbye(self, h: Happening, event: events.GoodBye, late: bool) -> None:
        detail = f"{event.how}: {event.why}" if event.why else event.how
        self._log("note", step=h.step, branch=h.branch, status="loop ended", detail=detail, time=self._when(h, late))

    def _preempted(self, h: Happening, event: events.Preempted, late: bool) -> None:
        detail = f"{event.signal}: {event.text}"
        self._log("note", step=h.step, branch=h.branch, status="preempted", detail=detail, time=self._when(h, late))

    def _when(self, h: Happening, late: bool) -> float | None:
        """Unix seconds at which it was, where that was a while ago; None: now."""
        session = self._present.session
        return session.wall(h.time) if late and session is not None else None

    _HANDLERS: dict[type[events.Event], Callable[..., None]] = {  # noqa: RUF012 — a table, never changed
        events.SessionStart: _session_start,
        events.Restored: _restored,
        events.CheckpointWritten: _checkpoint,
        events.CheckpointFailed: _checkpoint_failed,
        events.CheckpointRemoved: _checkpoint_removed,
        events.Done: _done,
        events.Paused: _paused,
        events.Remark: _remark,
        events.GoodBye: _goodbye,
        events.Preempted: _preempted,
    }

    # -- outcomes --------------------------------------------------------------------------------------------------------

    def outcome(self, outcome: Outcome, time: float | None = None) -> None:
        """By the recorder (lasting) or by the socket (fast); the second of the two is nothing new. ``time``: unix seconds; None: now."""
        if self._orders.known(outcome.id):
            return
        command = self._orders.outcome(outcome)
        self.concluded(command, outcome, time)

    def sessions_over(self, living: Collection[str | None]) -> None:
        """All that sessions other than ``living`` have written is read, and they write no more: what they never answered has expired."""
        for command, outcome in self._orders.over(living, self._present.step or 0, self._present.branch or 0):
            self.concluded(command, outcome)

    def concluded(self, command: Command | None, outcome: Outcome, time: float | None = None) -> None:
        """Into the logbook; and a restore that did not happen lets the guard trip again."""
        action = spelled(command.action) if command else None
        by = command.by if command else "operator"
        rule = by.removeprefix("rule:") if by.startswith("rule:") else None
        self._log(
            "outcome",
            step=outcome.step,
            branch=outcome.branch,
            rule=rule,
            action=action,
            status=outcome.status,
            detail=outcome.text,
            time=time,
        )
        if command is not None and isinstance(command.action, Rollback) and outcome.status != "applied":
            self._engine.restoring(False)


def entry(kind: EntryKind, clock: Clock, **fields: object) -> LogEntry:
    """A logbook line without its id (0), stamped now unless ``time`` says otherwise."""
    time = fields.pop("time", None)
    return LogEntry(id=0, time=clock.wall() if time is None else time, kind=kind, **fields)  # type: ignore[arg-type]
