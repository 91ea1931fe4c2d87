"""The machine's figures: real where they can be, saved control-group trees where a limit has to be in force."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sitter.clock import SystemClock
from sitter.host.cgroup import Cgroup, CpuLimit, MemoryLimit
from sitter.host.machine import Machine

GB = 1 << 30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {
    "proc/self/cgroup": "0::/user.slice/job.scope\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/user.slice/memory.max": str(64 * GB) + "\n",
    "sys/fs/cgroup/user.slice/memory.current": str(10 * GB) + "\n",
    "sys/fs/cgroup/user.slice/memory.stat": f"anon 1\ninactive_file {2 * GB}\n",
    "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
    "sys/fs/cgroup/user.slice/job.scope/memory.max": "max\n",
    "sys/fs/cgroup/user.slice/job.scope/memory.current": str(9 * GB) + "\n",
    "sys/fs/cgroup/user.slice/job.scope/memory.stat": "inactive_file 5\n",
    "sys/fs/cgroup/user.slice/job.scope/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/user.slice/job.scope/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
}

V1 = {
    "proc/4711/cgroup": "4:memory:/slurm/job_7\n3:cpu,cpuacct:/slurm/job_7\n1:name=systemd:/\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
    "sys/fs/cgroup/memory/slurm/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/slurm/memory.usage_in_bytes": "1\n",
    "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": str(8 * GB) + "\n",
    "sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes": str(6 * GB) + "\n",
    "sys/fs/cgroup/memory/slurm/job_7/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB}\n",
    "sys/fs/cgroup/cpu/slurm/job_7/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu/slurm/job_7/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/slurm/job_7/cpuacct.usage": "4000000000\n",
}


def test_version_2_limits_count_from_whichever_level_sets_them(tmp_path: Path) -> None:
    group = Cgroup(root=tree(tmp_path, V2))
    assert group.memory() == MemoryLimit(limit=64 * GB, used=8 * GB)
    assert group.cpu() == CpuLimit(cpus=0.5, used_s=2.5)


def test_version_1_limits_of_another_process(tmp_path: Path) -> None:
    group = Cgroup(4711, root=tree(tmp_path, V1))
    assert group.memory() == MemoryLimit(limit=8 * GB, used=5 * GB)
    assert group.cpu() == CpuLimit(cpus=1.5, used_s=4.0)


def test_a_container_that_sees_only_its_own_group_takes_the_mount(tmp_path: Path) -> None:
    group = Cgroup(root=tree(tmp_path, {
        "proc/self/cgroup": "4:memory:/docker/0123abcd\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * GB),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GB),
    }))  # fmt: skip
    assert group.memory() == MemoryLimit(limit=2 * GB, used=GB)


@pytest.mark.parametrize(
    "files", [{}, {"proc/self/cgroup": "0::/\n"}, {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/x": ""}]
)
def test_no_limit_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    group = Cgroup(root=tree(tmp_path, files))
    assert group.memory() is None
    assert group.cpu() is None


def test_the_limit_stands_in_place_of_the_hosts_memory(tmp_path: Path) -> None:
    small = psutil.virtual_memory().total // 4
    changed = {"memory.max": f"{small}\n", "memory.current": "4096\n", "memory.stat": "inactive_file 0\n"}
    files = V2 | {f"sys/fs/cgroup/user.slice/{name}": text for name, text in changed.items()}
    now = Machine(tmp_path, SystemClock().monotonic, root=tree(tmp_path, files)).now()
    assert (now.mem_used, now.mem_total) == (4096, small)


class Ticks:
    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        return self.at


def test_cpu_is_a_share_of_the_quota(tmp_path: Path) -> None:
    ticks, root = Ticks(), tree(tmp_path, V2)
    machine = Machine(tmp_path, ticks.monotonic, root=root)
    assert machine.now().cpu is None  # nothing to count from yet
    ticks.at += 10
    (root / "sys/fs/cgroup/user.slice/job.scope/cpu.stat").write_text("usage_usec 5000000\n")
    assert machine.now().cpu == pytest.approx(50.0)  # 2.5 s in 10 s, of half a CPU


def test_the_real_machine(tmp_path: Path) -> None:
    now = Machine(tmp_path, SystemClock().monotonic).now("no GPU here")
    assert now.mem_used is not None
    assert now.mem_total is not None
    assert 0 < now.mem_used < now.mem_total <= psutil.virtual_memory().total
    assert now.disk_free is not None
    assert now.disk_total is not None
    assert 0 < now.disk_free <= now.disk_total
    assert (now.train_rss, now.train_cpu, now.gpu_note) == (None, None, "no GPU here")


def test_a_busy_training_process_and_its_end(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SystemClock().monotonic)
    program = "print('up', flush=True)\nwhile True: pass"
    busy = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    with busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        machine.watch(busy.pid)
        began, first = time.monotonic(), machine.now()
        assert first.train_rss is not None
        assert first.train_rss > 1 << 20
        assert first.train_cpu is None  # unknown, not 0
        used = psutil.Process(busy.pid).cpu_times().user
        while psutil.Process(busy.pid).cpu_times().user < used + 0.1:
            os.sched_yield()
        second = machine.now()
        assert second.train_cpu is not None
        assert second.train_cpu > 100 * 0.07 / (time.monotonic() - began), "0.1 s in this time, counted in hundredths"
        busy.kill()
    gone = machine.now()
    assert (gone.train_rss, gone.train_cpu) == (None, None)


def test_a_process_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    machine = Machine(tmp_path, SystemClock().monotonic)
    machine.watch(ended.pid)
    assert machine.now().train_rss is None


def test_a_run_directory_that_went_away_leaves_the_disk_unknown(tmp_path: Path) -> None:
    now = Machine(tmp_path / "gone", SystemClock().monotonic).now()
    assert (now.disk_free, now.disk_total) == (None, None)
    assert now.mem_total is not None
