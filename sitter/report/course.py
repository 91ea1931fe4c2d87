"""Where in time the steps of a run lie: on which branch, by which process; and which of them were thrown away."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sitter.store.lines import Stretch, line
from sitter.store.reader import Reader
from sitter_wire.events import Restored

Cause = Literal["rollback", "restart"]


class Thrown(NamedTuple):
    """Steps that a rollback or a restart has thrown away: of ``branch``, after one step up to another, which took from a time to a time;
    and the branch that began then."""

    cause: Cause
    next_branch: int
    branch: int
    after: int
    to: int
    began: float
    ended: float


@dataclass(slots=True)
class Course:
    """``processes``: of each its first and last record's time, in order. ``steps``: of the present line."""

    processes: list[tuple[float, float]] = field(default_factory=list)
    last: dict[int, int] = field(default_factory=dict)
    """The last step that was logged on each branch."""
    often: dict[int, tuple[int, str]] = field(default_factory=dict)
    """What was logged most often on each branch: how often, and a signal of it."""
    thrown: list[Thrown] = field(default_factory=list)
    resumed: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)
    """Branches that began with a process other than the first, and from which (branch, step) they went on: (None, None) from the start."""
    steps: int = 0

    def left_by_restart(self, branch: int, step: int) -> bool:
        """Whether a process began later that knew nothing of this step: what was done at it is not in the run any more."""
        return any(t.cause == "restart" and t.branch == branch and t.after < step <= t.to for t in self.thrown)


def course(reader: Reader) -> Course:
    """One look at all chunks of the history. Raises StoreError."""
    made = Course()
    spans: dict[int, tuple[float, float]] = {}
    counts: Counter[tuple[int, str]] = Counter()
    clocks = reader.clocks()

    def seen(session: int, began: float, ended: float) -> None:
        lo, hi = spans.get(session, (began, ended))
        spans[session] = min(lo, began), max(hi, ended)

    for group in reader.groups():
        for rows in () if group.host else reader.rows(group):
            if rows.time:
                began, ended = clocks.wall(rows.session, min(rows.time)), clocks.wall(rows.session, max(rows.time))
                seen(rows.session, began, ended)
                made.last[rows.branch] = max(made.last.get(rows.branch, -1), *rows.step)
                counts[rows.branch, group.names[0]] += len(rows.step)
    numbers = {name: number for number, name in clocks.names.items()}
    for stored in reader.events():
        number = numbers.get(stored.session)
        if number is not None:
            at = clocks.wall(number, stored.happening.time // 1000)
            seen(number, at, at)
    made.processes = sorted(spans.values())
    for (branch, name), n in counts.items():
        made.often[branch] = max(made.often.get(branch, (0, "")), (n, name))
    _thrown_away(reader, made)
    made.steps = max((made.last[s.branch] if s.to is None else s.to for s in reader.line() if s.branch in made.last), default=-1) + 1
    return made


def _thrown_away(reader: Reader, made: Course) -> None:
    """What each new branch has left of the line before it."""
    parents: dict[int, tuple[int | None, int | None]] = {}
    session: str | None = None
    restored = (stored.happening.event for stored in reader.events(["restored"]))
    done = {event.branch: event.left for event in restored if isinstance(event, Restored)}  # the last of them may not have been logged
    for row in reader.branches():
        before = line(parents)
        parents[row.branch] = row.parent_branch, row.parent_step
        restart = session is not None and row.session != session
        if restart:
            made.resumed[row.branch] = row.parent_branch, row.parent_step
        session = row.session
        for left in _left(before, line(parents)):
            last = max(made.last.get(left.branch, left.after), done.get(row.branch, -1)) if left.to is None else left.to
            if last > left.after:
                times = _times(reader, made, left.branch, left.after, last)
                made.thrown.append(Thrown("restart" if restart else "rollback", row.branch, left.branch, left.after, last, *times))


def _left(before: list[Stretch], now: list[Stretch]) -> Iterator[Stretch]:
    """The stretches of one line that are not on the next."""
    kept = {s.branch: s for s in now}
    for was in before:
        still = kept.get(was.branch)
        if still is None:
            yield was
        elif still.to is not None and (was.to is None or was.to > still.to):
            yield Stretch(was.branch, still.to, was.to)


def _times(reader: Reader, made: Course, branch: int, after: int, to: int) -> tuple[float, float]:
    """When a step, and when another one had been logged."""
    _, times, _ = reader.points(made.often.get(branch, (0, ""))[1], [(branch, after - 1, to)])
    return (float(times[0]), float(times[-1])) if len(times) else (0.0, 0.0)
