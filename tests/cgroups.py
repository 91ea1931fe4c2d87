"""A control group with a memory limit of its own: what is put into it is killed, or refused memory, and nothing else on the machine is."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def limited(limit: int, *, swaps: bool = True) -> Iterator[Path]:
    """The group's directory, of version 1 or 2; ``limit`` in bytes. Not ``swaps``: what does not fit is killed, and not swapped out. Who
    is still in it when this ends is put back to where all others are. Skips the test where no such group can be made."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    old = any("memory" in line.split(":")[1].split(",") for line in lines)
    base = Path("/sys/fs/cgroup/memory" if old else "/sys/fs/cgroup")
    place = base / f"sitter-test-{os.getpid()}"
    try:
        place.mkdir()
        (place / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit))
        if not swaps:
            with contextlib.suppress(OSError):
                (place / ("memory.memsw.limit_in_bytes" if old else "memory.swap.max")).write_text(str(limit) if old else "0")
    except OSError as e:
        with contextlib.suppress(OSError):
            place.rmdir()
        pytest.skip(f"no control group with a memory limit can be made here: {e}")
    yield place
    for pid in (place / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            (base / "cgroup.procs").write_text(pid)
    with contextlib.suppress(OSError):
        place.rmdir()
