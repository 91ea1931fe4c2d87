"""What of a sample is kept in the history."""

from msgspec import structs

from sitter.host.kept import FAST, OF_HOST, SLOW, Keeper
from sitter.host.sampler import HostSample
from sitter.model import GpuNow, HostNow, Xid

OURS = GpuNow(index=0, uuid="GPU-a", name="A", util=80.0, mem_used=5, temp=50.0, used_by_run=True, throttle=["power cap", "power brake"])
FOREIGN = GpuNow(index=1, uuid="GPU-b", name="B", util=99.0, used_by_run=False)
SAMPLE = HostSample(time=1.0, gpus=[OURS, FOREIGN], host=HostNow(cpu=7.0, train_rss=12, cpus=4.0), alarms=[])


def test_the_runs_gpus_are_kept_and_the_host_where_it_was_read() -> None:
    words, kept = Keeper().keep(SAMPLE)
    assert kept["gpu0.util"] == 80.0
    assert kept["gpu0.throttle"] == 0x84
    assert kept["gpu0.power"] is None  # unknown stays unknown
    assert "gpu1.util" not in kept
    assert (kept["host.cpu"], kept["host.train_rss"], kept["host.cpus"]) == (7.0, 12, 4.0)
    assert [(w.uuid, w.name, w.used_by_run, w.util) for w in words or []] == [("GPU-a", "A", True, None), ("GPU-b", "B", False, None)]


def test_between_two_readings_of_the_host_only_what_changes_quickly_is_kept() -> None:
    keeper = Keeper()
    keeper.keep(SAMPLE)
    words, kept = keeper.keep(structs.replace(SAMPLE, fresh=False))
    assert words is None
    assert set(kept) == {f"gpu0.{name}" for name in (*FAST, "throttle")}


def test_a_new_word_is_kept_with_all_figures_beside_it() -> None:
    keeper = Keeper()
    keeper.keep(SAMPLE)
    reported = structs.replace(OURS, xids=[Xid(code=63, time=1.0)])
    words, kept = keeper.keep(structs.replace(SAMPLE, fresh=False, gpus=[reported, FOREIGN]))
    assert words is not None
    assert words[0].xids == reported.xids
    assert set(kept) == {f"gpu0.{name}" for name in (*FAST, *SLOW, "throttle")} | {f"host.{name}" for name in OF_HOST}


def test_of_a_gpu_that_does_not_answer_it_is_not_known_what_holds_it_back() -> None:
    silent = GpuNow(index=0, uuid="GPU-a", name="A", note="lost: GPU is lost", used_by_run=True)
    _, kept = Keeper().keep(structs.replace(SAMPLE, gpus=[silent]))
    assert kept["gpu0.throttle"] is None
