"""All that a report says, gathered from the history once."""

import math
from dataclasses import dataclass

from sitter.model import Curve, Incident, LogEntry
from sitter.report.course import course
from sitter.report.interventions import MOST_LOG, Intervention, first_start, interventions
from sitter.report.totals import Totals, totals
from sitter.store.reader import Reader
from sitter_wire.events import LoopStart, SessionStart
from sitter_wire.rundir import RunInfo


@dataclass(frozen=True, slots=True)
class Ends:
    """A signal's first, last and best finite value, with their steps. ``lost``: from where on it was not finite any more, and what it was
    then."""

    first: tuple[int, float]
    last: tuple[int, float]
    best: tuple[int, float]
    lost: tuple[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one run. ``total``: the steps that it was to do; ``ends``: of loss and goal."""

    info: RunInfo
    state: str
    start: SessionStart | None
    totals: Totals
    interventions: list[Intervention]
    incidents: list[Incident]
    log: list[LogEntry]
    total: int | None
    ends: dict[str, Ends]
    goal: str | None
    better: str


def gather(reader: Reader, info: RunInfo, state: str) -> Facts:
    """Raises StoreError."""
    log = reader.logbook(limit=MOST_LOG)
    made = course(reader)
    done = interventions(reader, log, made)
    start = first_start(reader)
    goal = start.goal if start is not None else None
    better = start.better if start is not None else "lower"
    ends = {}
    for name in dict.fromkeys(("loss", "val_loss", goal or "loss")):
        found = _ends(reader, name, better if name == goal else "lower")
        if found is not None:
            ends[name] = found
    return Facts(
        info=info, state=state, start=start, totals=totals(reader, made, log), interventions=done, incidents=reader.incidents(), log=log,
        total=_total(reader, start), ends=ends, goal=goal, better=better,
    )  # fmt: skip


def _total(reader: Reader, start: SessionStart | None) -> int | None:
    """Of all steps that it was to do, as was said last."""
    total = start.total if start is not None else None
    for stored in reader.events(["loop"]):
        event = stored.happening.event
        if isinstance(event, LoopStart) and event.total is not None:
            total = event.total
    return total


def _ends(reader: Reader, name: str, better: str) -> Ends | None:
    steps, _, values = reader.points(name)
    logged = [(int(s), float(v)) for s, v in zip(steps.tolist(), values.tolist(), strict=True)]
    known = [at for at in logged if math.isfinite(at[1])]
    if not known:
        return None
    best = (max if better == "higher" else min)(known, key=lambda at: at[1])
    end = next(i for i in range(len(logged) - 1, -1, -1) if math.isfinite(logged[i][1]))
    return Ends(first=known[0], last=known[-1], best=best, lost=logged[end + 1] if end + 1 < len(logged) else None)


def known(curve: Curve) -> bool:
    """Whether there is anything to draw."""
    return any(math.isfinite(y) for y in curve.mean)
