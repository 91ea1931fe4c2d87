"""How much memory is left to this process (the host's, or its cgroup's), and memory kept apart from the training's."""

import contextlib
import mmap
import os
from pathlib import Path

UNLIMITED = 1 << 60


def memory_left() -> int | None:
    """Bytes; None where this system does not say."""
    found = [n for n in (_host(), _cgroup()) if n is not None]
    return min(found) if found else None


def _host() -> int | None:
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # not Linux: asked another way below
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return None


def _cgroup() -> int | None:
    """The tightest of its own limit and its parents', each less what is used there (page cache that can go counts as free)."""
    left: list[int] = []
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, limit_name, used_name = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            folder, limit_name, used_name = (
                Path("/sys/fs/cgroup/memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        else:
            continue
        at = folder / path.lstrip("/")
        while True:
            free = _free(at, limit_name, used_name)
            if free is not None:
                left.append(free)
            if at == folder or folder not in at.parents:
                break
            at = at.parent
    return min(left) if left else None


def _free(folder: Path, limit_name: str, used_name: str) -> int | None:
    limit, used = _number(folder / limit_name), _number(folder / used_name)
    if limit is None or used is None or limit >= UNLIMITED:
        return None
    cache = 0
    try:
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                cache = int(line.split()[1])
    except (OSError, ValueError):
        cache = 0
    return max(0, limit - used + cache)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


LARGE = 64 * 1024
"""Bytes from which on a copy that lives long gets pages of its own."""


def pages(nbytes: int) -> mmap.mmap:
    """Zeroed memory outside the C library's heap, given back with the last array that uses it.

    A snapshot that lies in the heap lives longer than what the training allocates around it. The heap then ends at another place, and
    glibc gave its end back to the kernel and took it again at every step: a numpy training of 6 ms a step became 30 % slower by page faults
    alone, with nothing of ours running.
    """
    return mmap.mmap(-1, nbytes)


STEADY = 16 << 20
"""Bytes; from then on glibc keeps up to twice as many at the heap's end."""


def steady_heap() -> None:
    """Have the C library keep what a step frees and the next one takes again, as it does after any array of this size that a script drops.

    glibc begins by mapping whatever is over 128 kB and giving back what is free at the heap's end beyond 128 kB, and goes up with the
    largest piece that was freed so far. Until then a step of numpy may fault its arrays in anew; how many of them depends on what
    happens to lie where, and so on our being there: 256 faults a step became 744, and the step 18 % dearer. With this there are next
    to none, and the step is cheaper than it was alone. The pages are asked for and never touched. Other allocators do not mind.
    """
    with contextlib.suppress(MemoryError):
        bytes(STEADY)
