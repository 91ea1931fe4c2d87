"""What of a sample is kept in the history."""

from sitter.host.sampler import HostSample
from sitter.model import GpuNow, HostNow

OURS = GpuNow(index=0, uuid="GPU-a", name="A", util=80.0, mem_used=5, temp=50.0, used_by_run=True)
FOREIGN = GpuNow(index=1, uuid="GPU-b", name="B", util=99.0, used_by_run=False)


def test_the_runs_gpus_are_kept_and_the_host_where_it_was_read() -> None:
    sample = HostSample(time=1.0, gpus=[OURS, FOREIGN], host=HostNow(cpu=7.0, train_rss=12), alarms=[])
    kept = sample.figures()
    assert kept["gpu0.util"] == 80.0
    assert kept["gpu0.power"] is None  # unknown stays unknown
    assert "gpu1.util" not in kept
    assert (kept["host.cpu"], kept["host.train_rss"]) == (7.0, 12)


def test_a_repeated_host_reading_is_not_kept_twice() -> None:
    sample = HostSample(time=1.0, gpus=[OURS], host=HostNow(cpu=7.0), alarms=[], fresh=False)
    assert set(sample.figures()) == {"gpu0.util", "gpu0.mem_used", "gpu0.temp", "gpu0.power", "gpu0.sm_clock"}
