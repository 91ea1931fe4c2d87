"""What a control group allows a process: memory and CPUs, version 1 and 2.

Inside a container or a slurm job the host's figures are somebody else's: what ends a run is its own group's limit.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

LIMITS_KNOWN = 6
"""Readings for which it is remembered which groups set a limit: mostly one or none of a dozen does, and looking at all costs the most of a
reading. A limit that is set later is found after so many."""

UNLIMITED = 1 << 60
"""Version 1 writes a huge number where there is no limit."""


class MemoryLimit(NamedTuple):
    """Bytes. ``used`` leaves out the page cache that the kernel gives back first (inactive files), as kubelet does."""

    limit: int
    used: int


class CpuLimit(NamedTuple):
    """``cpus``: how many CPUs' worth of time the group may use; ``used_s``: CPU seconds used since it was made."""

    cpus: float
    used_s: float


Limit = TypeVar("Limit")


class Cgroup:
    """The groups of one process. ``root`` is where / is, so that a saved tree can be read as well."""

    def __init__(self, pid: int | None = None, root: Path = Path("/")) -> None:
        self._mounts = root / "sys/fs/cgroup"
        self._paths: dict[str, str] = {}
        self._memory = _Remembered(self._memory_groups)
        self._cpu = _Remembered(self._cpu_groups)
        try:
            lines = (root / "proc" / (str(pid) if pid else "self") / "cgroup").read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(",") if controllers else [""]:
                self._paths[controller] = path

    def memory(self) -> MemoryLimit | None:
        """The tightest memory limit on the way up; None where there is none."""
        return min(self._memory.read(), default=None, key=lambda m: m.limit - m.used)

    def cpu(self) -> CpuLimit | None:
        """The tightest CPU quota on the way up; None where there is none."""
        return min(self._cpu.read(), default=None, key=lambda c: c.cpus)

    def _memory_groups(self) -> Iterator[Callable[[], MemoryLimit | None]]:
        old = "memory" in self._paths
        for group in self._up("memory" if old else ""):
            yield partial(_memory_1 if old else _memory_2, group)

    def _cpu_groups(self) -> Iterator[Callable[[], CpuLimit | None]]:
        old = "cpu" in self._paths
        for group in self._up("cpu" if old else ""):
            yield partial(_cpu_1, group, tuple(self._up("cpuacct"))) if old else partial(_cpu_2, group)

    def _up(self, controller: str) -> Iterator[Path]:
        """The group's folder and those above it; the mount itself where that folder is not there (docker)."""
        if controller not in self._paths:
            return
        base = self._mounts / controller if controller else self._mounts
        if not controller and (self._mounts / "unified").is_dir():  # version 2 beside version 1
            base = self._mounts / "unified"
        group = base / self._paths[controller].lstrip("/")
        if not group.is_dir():
            group = base
        while True:
            yield group
            if group == base:
                return
            group = group.parent


class _Remembered(Generic[Limit]):
    """Which groups set a limit; only those are read, and all of them every ``LIMITS_KNOWN`` readings."""

    def __init__(self, groups: Callable[[], Iterator[Callable[[], Limit | None]]]) -> None:
        self._groups = groups
        self._limiting: list[Callable[[], Limit | None]] = []
        self._left = 0

    def read(self) -> list[Limit]:
        """The limits in force."""
        everything = self._left == 0
        self._left = (LIMITS_KNOWN if everything else self._left) - 1
        found = [(ask, limit) for ask in (self._groups() if everything else self._limiting) if (limit := ask()) is not None]
        self._limiting = [ask for ask, _ in found]
        return [limit for _, limit in found]


def _memory_1(group: Path) -> MemoryLimit | None:
    limit = _number(group / "memory.limit_in_bytes")
    if limit is None or limit >= UNLIMITED:
        return None
    used = _number(group / "memory.usage_in_bytes")
    return None if used is None else MemoryLimit(limit, max(used - _stat(group / "memory.stat", "total_inactive_file"), 0))


def _memory_2(group: Path) -> MemoryLimit | None:
    limit = _number(group / "memory.max")
    used = None if limit is None else _number(group / "memory.current")
    if limit is None or used is None:
        return None
    return MemoryLimit(limit, max(used - _stat(group / "memory.stat", "inactive_file"), 0))


def _cpu_1(group: Path, accounts: tuple[Path, ...]) -> CpuLimit | None:
    quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    if quota is None or quota <= 0 or not period:
        return None
    used = next((n for g in (group, *accounts) if (n := _number(g / "cpuacct.usage"))), None)
    return None if used is None else CpuLimit(quota / period, used / 1e9)


def _cpu_2(group: Path) -> CpuLimit | None:
    words = _text(group / "cpu.max").split()
    if len(words) != 2 or not words[0].isdigit() or int(words[1]) <= 0:
        return None
    return CpuLimit(int(words[0]) / int(words[1]), _stat(group / "cpu.stat", "usage_usec") / 1e6)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """None where the file is not there or says ``max``."""
    try:
        return int(_text(path))
    except ValueError:
        return None


def _stat(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        if line.startswith(name + " "):
            return int(line.split()[1])
    return 0
