"""The machine as the run sees it: CPU, memory, the disk under the run directory, and the training process."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil

from sitter.host.cgroup import Cgroup
from sitter.model import HostNow


class Machine:
    """Reads it all at once; each reading costs about a millisecond. Figures that cannot be had are None."""

    def __init__(self, run_dir: Path, monotonic: Callable[[], float], root: Path = Path("/")) -> None:
        self._run_dir, self._monotonic, self._root = run_dir, monotonic, root
        self._cgroup = Cgroup(root=root)
        self._process: psutil.Process | None = None
        self._fresh = True
        self._before: tuple[float, float] | None = None
        psutil.cpu_percent(None)  # the first answer is meaningless; the next counts from here

    def watch(self, pid: int | None) -> None:
        """This is the training process (None: not known). Its control group's limits count from now on."""
        self._process, self._fresh = None, True
        if pid is not None:
            try:
                self._process = psutil.Process(pid)
            except psutil.Error:
                pid = None
        self._cgroup, self._before = Cgroup(pid, self._root), None

    def now(self, gpu_note: str = "") -> HostNow:
        """All of it. ``cpu`` is a share of what the run may use: its quota where it has one, else the whole machine."""
        mem_used, mem_total = self._memory()
        disk_free, disk_total = self._disk()
        train_rss, train_cpu = self._training()
        return HostNow(
            cpu=self._cpu(), mem_used=mem_used, mem_total=mem_total, disk_free=disk_free, disk_total=disk_total,
            train_rss=train_rss, train_cpu=train_cpu, gpu_note=gpu_note, cpus=self._cpus(),
        )  # fmt: skip

    def _cpu(self) -> float | None:
        of_host = float(psutil.cpu_percent(None))
        limit = self._cgroup.cpu()
        if limit is None or limit.cpus >= (os.cpu_count() or 1):
            return of_host
        now = self._monotonic()
        before, self._before = self._before, (now, limit.used_s)
        if before is None or now <= before[0]:
            return None
        return max(0.0, 100 * (limit.used_s - before[1]) / (now - before[0]) / limit.cpus)

    def _cpus(self) -> float:
        there, limit = float(os.cpu_count() or 1), self._cgroup.cpu()
        return there if limit is None else min(there, limit.cpus)

    def _memory(self) -> tuple[int, int]:
        host = psutil.virtual_memory()
        limit = self._cgroup.memory()
        if limit is not None and limit.limit < host.total:
            return limit.used, limit.limit
        return host.total - host.available, host.total

    def _disk(self) -> tuple[int | None, int | None]:
        try:
            disk = psutil.disk_usage(str(self._run_dir))
        except OSError:
            return None, None
        return disk.free, disk.total

    def _training(self) -> tuple[int | None, float | None]:
        if self._process is None:
            return None, None
        try:
            with self._process.oneshot():
                if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
                    return None, None
                rss, cpu = self._process.memory_info().rss, self._process.cpu_percent(None)
        except psutil.Error:
            return None, None
        fresh, self._fresh = self._fresh, False
        return rss, None if fresh else cpu  # its first CPU figure has nothing to count from
