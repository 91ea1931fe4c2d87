"""The driver's own figures, through the real library: what is said is plausible, agrees with torch, and costs little."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sitter.clock import SystemClock
from sitter.host.figures import _REASONS
from sitter.host.gpus import Gpus, Seen, bare
from sitter.host.kept import FAST, SLOW, Keeper
from sitter.host.nvml import library_present
from sitter.host.sampler import HostSample, Sampler
from sitter.model import GpuNow
from sitter_agent.opening import _gpus

pytestmark = pytest.mark.gpu

GIB = 1 << 30
LOOK_S = 0.01
"""CPU seconds of one look, at most: 1 % of a core at one a second. DESIGN §13 wants a tenth of that; what it was is printed."""


@pytest.fixture
def gpus() -> Iterator[Gpus]:
    if not library_present():
        pytest.skip("no NVIDIA driver library here")
    made = Gpus(SystemClock())
    yield made
    made.close()


def plausible(g: GpuNow) -> None:
    """What a GPU may say of itself. A figure that it lacks (MIG, virtual GPUs) is None, never 0 in its place."""
    assert g.uuid.startswith("GPU-"), g
    assert len(g.uuid) == 40, g
    assert g.name, g
    assert g.util is None or 0 <= g.util <= 100, g
    assert (g.mem_used is None) == (g.mem_total is None), g
    if g.mem_used is not None and g.mem_total is not None:
        assert 0 <= g.mem_used <= g.mem_total, g
        assert GIB < g.mem_total < 2048 * GIB, g
    assert g.temp is None or 10 <= g.temp <= 120, g
    assert g.power is None or 0 < g.power < 3000, g
    assert g.power_limit is None or 0 < g.power_limit < 3000, g
    assert g.sm_clock is None or 100 <= g.sm_clock <= 5000, g
    assert set(g.throttle) <= set(_REASONS.values()), g
    assert g.energy is None or g.energy > 0, g
    assert g.ecc_errors is None or g.ecc_errors >= 0, g


def whole(g: GpuNow) -> bool:
    """Not cut up, nothing forbidden: then the everyday figures are all there."""
    return not g.note


def of_torch(seen: Seen) -> GpuNow:
    """The GPU that torch calls the current one."""
    (uuid,) = _gpus(torch.nn.Linear(1, 1).to("cuda"))
    (found,) = [g for g in seen.gpus if bare(g.uuid) == bare(uuid)]
    return found


def busy(seconds: float) -> None:
    a = torch.randn(4096, 4096, device="cuda") / 64
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            a = a @ a
            a = a / a.norm()
        torch.cuda.synchronize()


def test_every_figure_is_plausible(gpus: Gpus) -> None:
    seen = gpus.look(slow=True)
    assert (seen.note, seen.alarms) == ("", [])
    assert seen.gpus
    for g in seen.gpus:
        plausible(g)
        if whole(g):
            assert None not in (g.util, g.mem_used, g.mem_total, g.temp, g.power, g.sm_clock), g
        print(g)
    again = gpus.look(slow=False)
    assert [g.uuid for g in again.gpus] == [g.uuid for g in seen.gpus]
    for g, before in zip(again.gpus, seen.gpus, strict=True):
        plausible(g)
        assert (g.power_limit, g.energy) == (before.power_limit, before.energy)  # asked every ten seconds only


def test_it_is_the_gpu_that_torch_means(gpus: Gpus, cuda: str) -> None:
    (uuid,) = _gpus(torch.nn.Linear(1, 1).to(cuda))
    seen = gpus.look(slow=True, pid=os.getpid(), uuids=(uuid,))
    mine = of_torch(seen)
    assert mine.used_by_run is True
    assert [g.uuid for g in seen.gpus if g.used_by_run] == [mine.uuid]
    assert all(g.used_by_run is not None for g in seen.gpus)
    if whole(mine):
        total = torch.cuda.get_device_properties(0).total_memory
        assert abs(mine.mem_total - total) < 0.1 * total


def test_who_computes_is_found_or_not_known(gpus: Gpus, cuda: str) -> None:
    """In a container the driver may list foreign process numbers, or none."""
    torch.zeros(1, device=cuda)
    seen = gpus.look(slow=True, pid=os.getpid())
    if any(g.used_by_run is not None for g in seen.gpus):
        assert of_torch(seen).used_by_run is True
    nobody = gpus.look(slow=True, pid=2**22 + 1)  # beyond the largest pid that Linux gives
    assert all(g.used_by_run is None for g in nobody.gpus)


def test_memory_and_load_are_seen(gpus: Gpus, cuda: str) -> None:
    torch.zeros(1, device=cuda)
    before = of_torch(gpus.look(slow=True))
    if not whole(before):
        pytest.skip(f"this GPU does not say all: {before.note}")
    kept = torch.zeros(GIB, dtype=torch.uint8, device=cuda)
    torch.cuda.synchronize()
    during = of_torch(gpus.look(slow=True))
    assert during.mem_used - before.mem_used > 0.9 * GIB
    del kept
    torch.cuda.empty_cache()
    worker = threading.Thread(target=busy, args=(3.0,))
    worker.start()
    looks = []
    while worker.is_alive():
        looks.append(of_torch(gpus.look(slow=True)))
        worker.join(0.2)
    assert max(g.util for g in looks) >= 50
    assert looks[-1].energy is None or looks[-1].energy > looks[0].energy
    assert max(g.power for g in looks) >= min(g.power for g in looks) > 0
    for g in looks:
        plausible(g)


class Looks:
    """What a Sampler hands on."""

    def __init__(self) -> None:
        self.samples: list[HostSample] = []
        self._came = threading.Condition()

    def __call__(self, sample: HostSample) -> None:
        with self._came:
            self.samples.append(sample)
            self._came.notify_all()

    def until(self, what: Callable[[], Any], timeout: float) -> None:
        with self._came:
            assert self._came.wait_for(what, timeout), f"never so within {timeout} s; last: {self.samples[-1:]}"


def test_the_sampler_hands_on_the_same_figures_and_costs_little(gpus: Gpus, tmp_path: Path) -> None:
    looks = Looks()
    sampler = Sampler(tmp_path, SystemClock(), looks, fast_s=0.1, slow_s=1.0)
    sampler.watch(os.getpid(), [gpus.look(slow=True).gpus[0].uuid])
    began = time.perf_counter()
    sampler.start()
    try:
        looks.until(lambda: looks.samples, 10.0)
        first = time.perf_counter() - began
        looks.until(lambda: len(looks.samples) >= 5, 10.0)
        since, cpu, wall = len(looks.samples), time.process_time(), time.perf_counter()
        looks.until(lambda: len(looks.samples) >= since + 30, 20.0)
        cpu, wall, n = time.process_time() - cpu, time.perf_counter() - wall, len(looks.samples) - since
    finally:
        began = time.perf_counter()
        sampler.close()
        closed = time.perf_counter() - began
    print(
        f"first sample after {first:.2f} s; a look costs {1e3 * cpu / n:.2f} ms CPU ({100 * cpu / n:.2f} % of a core at 1 Hz) and comes "
        f"every {1e3 * wall / n:.0f} ms; closed in {closed:.2f} s"
    )
    assert cpu / n < LOOK_S
    assert wall / n < 0.2
    assert closed < 1.5
    last = looks.samples[-1]
    assert not [a for s in looks.samples for a in s.alarms]
    for g in last.gpus:
        plausible(g)
    mine = [g for g in last.gpus if g.used_by_run]
    assert len(mine) == 1
    _, figures = Keeper().keep(last)
    names = {name for name in figures if name.startswith("gpu")}
    assert names == {f"gpu{mine[0].index}.{what}" for what in (*FAST, *SLOW, "throttle")}
    if whole(mine[0]):
        assert all(figures[f"gpu{mine[0].index}.{what}"] is not None for what in (*FAST, "throttle"))
    assert last.host.gpu_note == ""


def test_the_thread_that_listens_for_xids_ends(gpus: Gpus) -> None:
    gpus.look(slow=True)
    began = time.monotonic()
    gpus.close()
    assert time.monotonic() - began < 2.5
    assert not [t for t in threading.enumerate() if t.name == "sitter-xid"]
