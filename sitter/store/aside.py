"""A damaged history is moved aside, never deleted: a new one is begun from what the recorder still holds."""

import datetime
from pathlib import Path


def set_aside(history: Path, now: float, why: str = "damaged") -> Path:
    """Where it lies from now on: beside its old place, with what belongs to it, under a name that SQLite opens as it was and that has
    ``why`` in it. ``now`` in unix seconds. Raises OSError.

    The file itself goes last: should this be cut short, what is left is still the damaged history, and is set aside by whoever comes next.
    """
    real = history.resolve()  # a link, where the run lies on a network file system
    stamp = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y%m%dT%H%M%S")
    for n in range(1, 1000):
        aside = real.with_name(f"{real.name}.{why}-{stamp}" + (f"-{n}" if n > 1 else ""))
        if not aside.exists():
            break
    for suffix in ("-wal", "-shm", ""):
        part = real.with_name(real.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def aside(history: Path) -> list[str]:
    """Names of the damaged ones that lie beside a history, oldest first."""
    real = history.resolve()
    return sorted(p.name for p in real.parent.glob(f"{real.name}.damaged-*") if not p.name.endswith(("-wal", "-shm")))
