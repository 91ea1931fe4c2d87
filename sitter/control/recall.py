"""What a new daemon is told of the past: its last points and events, as they were made, with acting off (PROTOCOL, present and past)."""

from collections.abc import Callable
from typing import get_args

from sitter.control.incidents import Incidents
from sitter.control.present import GOALS, Present
from sitter.model import Finding
from sitter.rules.base import gave_up, recovered
from sitter.rules.engine import Engine
from sitter.rules.view import Sample
from sitter.store.reader import Reader
from sitter_wire.events import AnyEvent, SnapshotTaken
from sitter_wire.records import Happening

SNAPSHOT = str(SnapshotTaken.__struct_config__.tag)
LASTING = [str(kind.__struct_config__.tag) for kind in get_args(AnyEvent) if kind is not SnapshotTaken]
"""Events of which there are few, and of which the oldest still counts."""
WARM_UP_POINTS = 5000
"""Points of the past that a new daemon shows its rules, so that they know what is usual."""


class Recall:
    """``on_event`` is called when the present knows of an event and the rules do not yet."""

    def __init__(self, present: Present, engine: Engine, incidents: Incidents, on_event: Callable[[], None]) -> None:
        self._present, self._engine, self._incidents, self._on_event = present, engine, incidents, on_event

    def tell(self, reader: Reader, session: str) -> None:
        """The last session's: last values, what is usual, the best of the goal, which incidents are still open. Raises StoreError."""
        troubled: set[str] = set()
        for item in past(reader, session):
            for finding in self._retell(item):
                (troubled.discard if recovered(finding) or gave_up(finding) else troubled.add)(finding.rule)
        for incident in self._incidents.open:
            if incident.rule not in troubled:  # its rule knows nothing of it any more, and could never say that it is over
                self._incidents.over(incident.rule, "how it ended is not known, since the daemon that saw it is gone")
        if self._present.goal is not None:
            self._goal(reader, self._present.goal[0])

    def _goal(self, reader: Reader, goal: str) -> None:
        """Goals are logged seldom: the best of them may lie far before the points that the rules are shown."""
        line = {stretch.branch: stretch for stretch in reader.line()}
        self._present.recall_goal(
            (point.step, point.values[goal])
            for point in reader.last(GOALS, [goal])
            if (on := line.get(point.branch)) and on.after < point.step and (on.to is None or point.step <= on.to)
        )

    def _retell(self, item: Sample | Happening) -> list[Finding]:
        if isinstance(item, Happening):
            self._present.happening(item)
            self._on_event()
            self._engine.happened(item)
            return []
        self._present.recall(item)
        return self._engine.observe(item, late=True)


def past(reader: Reader, session: str) -> list[Sample | Happening]:
    """Interleaved as they were made: a restore between two points changes what the second may be compared with. Snapshots only from the
    first of the points on: there are up to some a second, for days, and at an earlier one the rules remember nothing yet."""
    points = [point for point in reader.tail(WARM_UP_POINTS) if point.session == session]
    events = list(reader.events(LASTING))
    if points:
        events += reader.events([SNAPSHOT], after=reader.event_before(session, points[0].seq))
    told: list[tuple[int, Sample | Happening]] = [(e.happening.seq, e.happening) for e in events if e.session == session]
    told += [
        (point.seq, Sample(step=point.step, branch=point.branch, time=point.time / 1e9, values=point.values)) for point in points
    ]
    return [item for _, item in sorted(told, key=lambda t: t[0])]
