"""What a control group allows a process: memory and CPUs, version 1 and 2.

Inside a container or a slurm job the host's figures are somebody else's: what ends a run is its own group's limit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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


class Cgroup:
    """The groups of one process. ``root`` is where / is, so that a saved tree can be read as well."""

    def __init__(self, pid: int | None = None, root: Path = Path("/")) -> None:
        self._mounts = root / "sys/fs/cgroup"
        self._paths: dict[str, str] = {}
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
        found: list[MemoryLimit] = []
        if "memory" in self._paths:
            for group in self._up("memory"):
                limit = _number(group / "memory.limit_in_bytes")
                used = _number(group / "memory.usage_in_bytes")
                if limit is not None and used is not None and limit < UNLIMITED:
                    found.append(MemoryLimit(limit, max(used - _stat(group / "memory.stat", "total_inactive_file"), 0)))
        else:
            for group in self._up(""):
                limit = _number(group / "memory.max")
                used = _number(group / "memory.current")
                if limit is not None and used is not None:
                    found.append(MemoryLimit(limit, max(used - _stat(group / "memory.stat", "inactive_file"), 0)))
        return min(found, default=None, key=lambda m: m.limit - m.used)

    def cpu(self) -> CpuLimit | None:
        """The tightest CPU quota on the way up; None where there is none."""
        found: list[CpuLimit] = []
        if "cpu" in self._paths:
            for group in self._up("cpu"):
                quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
                used = next((n for g in (group, *self._up("cpuacct")) if (n := _number(g / "cpuacct.usage"))), None)
                if quota is not None and quota > 0 and period and used is not None:
                    found.append(CpuLimit(quota / period, used / 1e9))
        else:
            for group in self._up(""):
                words = _text(group / "cpu.max").split()
                if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
                    found.append(CpuLimit(int(words[0]) / int(words[1]), _stat(group / "cpu.stat", "usage_usec") / 1e6))
        return min(found, default=None, key=lambda c: c.cpus)

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
