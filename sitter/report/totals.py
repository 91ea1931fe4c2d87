"""The sums of a run: hours, what was lost to what, energy, restarts."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import get_args

from sitter.model import LogEntry, Struct
from sitter.report.course import Cause, Course, Thrown
from sitter.store.reader import Reader
from sitter_wire.events import Paused

LONGEST_S = 60.0
"""Between two samples of a GPU's power; over a longer gap nothing is known of it."""


class Totals(Struct, frozen=True):
    """Seconds but where said. None: unknown.

    ``trained``: from each process's first record to its last; ``watched``: of that, with a daemon that lived. ``lost`` by cause:
    ``rollbacks`` and ``restarts`` (the steps that they have thrown away), ``pauses``, ``stalls``, ``between processes``; ``steps_lost``
    by rollbacks and by restarts, by the same names."""

    steps: int
    began: float | None
    ended: float | None
    trained: float
    watched: float
    gpus: int | None
    gpu_hours: float | None
    lost: dict[str, float]
    steps_lost: dict[str, int]
    energy_kwh: float | None
    restarts: int
    checkpoints: int
    incidents: int


def totals(reader: Reader, made: Course, log: list[LogEntry]) -> Totals:
    """Raises StoreError."""
    spans = made.processes
    trained = sum(end - begin for begin, end in spans)
    gpus = _gpus(reader)
    pauses = list(_pauses(reader))
    stalls = list(_stalls(log))
    lost = {f"{cause}s": sum(_without(t, [*pauses, *stalls]) for t in made.thrown if t.cause == cause) for cause in get_args(Cause)}
    lost |= {
        "pauses": sum(end - begin for begin, end in pauses),
        "stalls": sum(end - begin for begin, end in stalls),
        "between processes": sum(max(0.0, later - end) for (_, end), (later, _) in pairwise(spans)),
    }
    steps = {f"{cause}s": sum(t.to - t.after for t in made.thrown if t.cause == cause) for cause in get_args(Cause)}
    return Totals(
        steps=made.steps, began=spans[0][0] if spans else None, ended=spans[-1][1] if spans else None,
        trained=trained, watched=_watched(reader, spans), gpus=gpus or None, gpu_hours=trained * gpus / 3600.0 if gpus else None,
        lost={cause: seconds for cause, seconds in lost.items() if seconds > 0 or steps.get(cause)},
        steps_lost={cause: n for cause, n in steps.items() if n}, energy_kwh=_energy(reader), restarts=max(0, len(spans) - 1),
        checkpoints=sum(e.kind == "checkpoint" and e.status in ("verified", "written") for e in log), incidents=len(reader.incidents()),
    )  # fmt: skip


def _without(thrown: Thrown, others: list[tuple[float, float]]) -> float:
    """How long it took, without what is counted as a pause or a stall."""
    within = sum(max(0.0, min(thrown.ended, end) - max(thrown.began, begin)) for begin, end in others)
    return max(0.0, thrown.ended - thrown.began - within)


def _pauses(reader: Reader) -> Iterator[tuple[float, float]]:
    """From when to when. One in which the process ended is over with it."""
    since: tuple[float, str] | None = None
    for stored in reader.events(["paused", "start"]):
        event = stored.happening.event
        if isinstance(event, Paused) and event.paused:
            since = stored.wall, stored.session
        elif since is not None:
            if isinstance(event, Paused) and stored.session == since[1]:
                yield since[0], max(since[0], stored.wall)
            since = None


def _stalls(log: list[LogEntry]) -> Iterator[tuple[float, float]]:
    """From the finding to the end of its incident."""
    since: float | None = None
    for entry in log:
        if entry.rule == "stalled" and entry.kind == "finding" and entry.status in ("warning", "critical"):
            since = entry.time if since is None else since
        elif entry.rule == "stalled" and entry.kind == "incident" and entry.status not in ("open", None) and since is not None:
            yield since, max(since, entry.time)
            since = None


def _watched(reader: Reader, processes: list[tuple[float, float]]) -> float:
    """A daemon that lives looks at the machine; between two looks that lie close together it lived."""
    looks: set[int] = set()
    for group in reader.groups():
        for rows in reader.rows(group) if group.host else ():
            looks.update(time // 1_000_000 for time in rows.time)
    lived = _joined([(a, b + 1) for a, b in pairwise(sorted(looks)) if b - a <= LONGEST_S])
    return sum(max(0.0, min(end, b) - max(begin, a)) for begin, end in processes for a, b in lived)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that touch as one."""
    found: list[tuple[int, int]] = []
    for a, b in spans:
        if found and a <= found[-1][1]:
            found[-1] = found[-1][0], max(b, found[-1][1])
        else:
            found.append((a, b))
    return found


def _gpus(reader: Reader) -> int:
    return len({name.partition(".")[0] for group in reader.groups() if group.host for name in group.names if name.startswith("gpu")})


def _energy(reader: Reader) -> float | None:
    """Kilowatt-hours of the run's GPUs, from the power between samples; None where it was never said."""
    joules, known = 0.0, False
    for name in sorted({n for g in reader.groups() if g.host for n in g.names if n.startswith("gpu") and n.endswith(".power")}):
        _, times, watts = reader.points(name)
        for (t0, w0), (t1, w1) in pairwise(zip(times.tolist(), watts.tolist(), strict=True)):
            if 0 < t1 - t0 <= LONGEST_S and math.isfinite(w0) and math.isfinite(w1):
                joules += 0.5 * (w0 + w1) * (t1 - t0)
                known = True
    return joules / 3.6e6 if known else None
