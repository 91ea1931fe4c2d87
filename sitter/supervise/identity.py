"""Which process is meant: a pid alone is soon somebody else's. Standard library only, since the small parent has this."""

import os
from pathlib import Path
from typing import Any


def start_ticks(pid: int) -> int | None:
    """When ``pid`` was started, in clock ticks since boot: pid, this and the boot id name one process for ever. Linux only."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def boot_id() -> str | None:
    """Differs after every boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def identity(pid: int, started: float, run: Path) -> dict[str, Any]:
    """What a pid file says: enough never to take a reused pid for this process, nor a copy of ``run`` for the run that it is of."""
    return {"pid": pid, "started": started, "ticks": start_ticks(pid), "boot": boot_id(), "run": os.fspath(run)}
