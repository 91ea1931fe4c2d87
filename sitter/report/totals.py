"""The sums of a run: hours, what was lost to what, energy, restarts."""

import math
from collections.abc import Iterator
from itertools import pairwise

from sitter.model import LogEntry, Struct
from sitter.report.interventions import Intervention
from sitter.store.reader import Reader
from sitter_wire.events import Paused, Restored

LONGEST_S = 60.0
"""Between two samples of a GPU's power; over a longer gap nothing is known of it."""


class Totals(Struct, frozen=True):
    """Seconds but where said. None: unknown.

    ``trained``: from each process's first record to its last. ``lost`` by cause: ``rollbacks`` (the steps that were thrown away),
    ``pauses``, ``stalls``, ``between processes`` (crashes and restarts)."""

    steps: int
    began: float | None
    ended: float | None
    trained: float
    gpus: int | None
    gpu_hours: float | None
    lost: dict[str, float]
    steps_lost: int
    energy_kwh: float | None
    restarts: int
    checkpoints: int
    incidents: int


def totals(reader: Reader, done: list[Intervention], log: list[LogEntry]) -> Totals:
    """Raises StoreError."""
    spans = _spans(reader)
    trained = sum(end - begin for begin, end in spans)
    steps, _, _ = reader.points("loss")
    gpus = _gpus(reader)
    lost = {
        "rollbacks": _rollbacks(reader),
        "pauses": _pauses(reader),
        "stalls": sum(_stalls(log)),
        "between processes": sum(max(0.0, later - end) for (_, end), (later, _) in pairwise(spans)),
    }
    return Totals(
        steps=int(steps[-1]) + 1 if len(steps) else 0, began=spans[0][0] if spans else None, ended=spans[-1][1] if spans else None,
        trained=trained, gpus=gpus or None, gpu_hours=trained * gpus / 3600.0 if gpus else None,
        lost={cause: seconds for cause, seconds in lost.items() if seconds > 0},
        steps_lost=sum(i.lost or 0 for i in done), energy_kwh=_energy(reader), restarts=max(0, len(spans) - 1),
        checkpoints=sum(e.kind == "checkpoint" and e.status in ("verified", "written") for e in log), incidents=len(reader.incidents()),
    )  # fmt: skip


def _spans(reader: Reader) -> list[tuple[float, float]]:
    """Of each process, its first record's and its last one's wall time."""
    clocks = reader.clocks()
    found: dict[int, tuple[float, float]] = {}

    def seen(session: int, time: float) -> None:
        lo, hi = found.get(session, (time, time))
        found[session] = min(lo, time), max(hi, time)

    for group in reader.groups():
        if not group.host:
            for rows in reader.rows(group):
                if rows.time:
                    seen(rows.session, clocks.wall(rows.session, min(rows.time)))
                    seen(rows.session, clocks.wall(rows.session, max(rows.time)))
    numbers = {name: number for number, name in clocks.names.items()}
    for stored in reader.events():
        number = numbers.get(stored.session)
        if number is not None:
            seen(number, clocks.wall(number, stored.happening.time // 1000))
    return sorted(found.values())


def _rollbacks(reader: Reader) -> float:
    """Seconds spent on steps that a restore threw away: between the first of them and the restore."""
    clocks, lost = reader.clocks(), 0.0
    numbers = {name: number for number, name in clocks.names.items()}
    for stored in reader.events(["restored"]):
        event = stored.happening.event
        if isinstance(event, Restored) and event.left > event.step:
            _, times, _ = reader.points("loss", [(event.from_branch, event.step, event.left)])
            at = clocks.wall(numbers.get(stored.session, 0), stored.happening.time // 1000)
            if len(times):
                lost += max(0.0, at - float(times[0]))
    return lost


def _pauses(reader: Reader) -> float:
    total, since = 0.0, None
    for stored in reader.events(["paused"]):
        event = stored.happening.event
        if isinstance(event, Paused):
            if event.paused:
                since = stored.wall
            elif since is not None and stored.wall is not None:
                total += max(0.0, stored.wall - since)
                since = None
    return total


def _stalls(log: list[LogEntry]) -> Iterator[float]:
    """From the finding to the end of its incident."""
    since: float | None = None
    for entry in log:
        if entry.rule == "stalled" and entry.kind == "finding" and entry.status in ("warning", "critical"):
            since = entry.time if since is None else since
        elif entry.rule == "stalled" and entry.kind == "incident" and entry.status not in ("open", None) and since is not None:
            yield max(0.0, entry.time - since)
            since = None


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
