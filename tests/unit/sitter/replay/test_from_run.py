"""A recorded run as a story: all of it in order, by one clock, with what the machine did meanwhile."""

from pathlib import Path

from msgspec import structs

from sitter.clock import SystemClock
from sitter.host.kept import Keeper
from sitter.host.sampler import HostSample
from sitter.model import GpuNow, HostNow, Xid
from sitter.replay.from_run import from_run
from sitter.replay.machine import machine
from sitter.replay.story import Began, Machine
from sitter.rules.view import Sample
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire.events import GoodBye, SessionStart, SnapshotTaken
from sitter_wire.records import Happening, Point

WALL, MONO = 1_800_000_000 * 10**9, 5 * 10**12


def session(writer: Writer, name: str, steps: range, wall_ns: int, mono_ns: int, branch: int) -> None:
    """Two signals of each step by two calls, an event at every tenth, a second a step."""
    writer.session(name, wall_ns, mono_ns, 1)
    records: list[Point | Happening] = [Happening(1, 0, branch, mono_ns, SessionStart(pid=1, host="h", branch=branch))]
    for i, step in enumerate(steps):
        at = mono_ns + i * 10**9
        records.append(Point(len(records) + 1, step, branch, at, ("loss",), (2.0,)))
        if step % 10 == 9:
            taken = SnapshotTaken(slot=0, branch=branch, step=step, bytes=1, seconds=0.0)
            records.append(Happening(len(records) + 1, step, branch, at, taken))
        records.append(Point(len(records) + 1, step, branch, at + 10**8, ("lr", "step_time"), (1e-3, 1.0)))
    records.append(Happening(len(records) + 1, steps[-1], branch, mono_ns + len(steps) * 10**9, GoodBye(how="total")))
    assert writer.records(name, records)


def test_two_processes_and_the_machine_beside_them(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "history.db", on_commit=lambda _: None, clock=SystemClock())
    writer.start()
    reader = Reader(tmp_path / "history.db")
    try:
        session(writer, "a", range(50), WALL, MONO, 0)
        session(writer, "b", range(50, 100), WALL + 600 * 10**9, 10**9, 1)  # after a reboot: its own clock begins anew
        for second in (0, 10, 610):
            writer.host(WALL / 1e9 + second, {"gpu0.temp": 60.0 + second, "host.cpu": 50.0})
        assert writer.flush()
        items = list(from_run(reader, "x").items)
    finally:
        writer.close()
        reader.close()
    samples = [item for item in items if isinstance(item, Sample)]
    assert [s.step for s in samples] == [step for step in range(100) for _ in range(2)]
    assert [s.branch for s in samples] == [0] * 100 + [1] * 100
    assert samples[0].values == {"loss": 2.0}
    assert samples[1].values == {"lr": 1e-3, "step_time": 1.0}
    times = [item.time / 1e9 if isinstance(item, Happening) else item.time for item in items]
    assert times == sorted(times)
    assert times[0] >= WALL / 1e9
    assert times[-1] <= WALL / 1e9 + 700
    assert [item.alive for item in items if isinstance(item, Began)] == [True, False, True, False]
    told = [item for item in items if isinstance(item, Machine)]
    assert [m.gpus[0].temp if m.gpus else None for m in told] == [60.0, 70.0, None, 670.0, None]  # a look holds for half a minute
    assert told[0].host is not None
    assert told[0].host.cpu == 50.0
    assert told[2].host is None


def test_what_was_not_known_at_a_look_is_not_known_in_its_replay(tmp_path: Path) -> None:
    at = WALL / 1e9
    busy = GpuNow(index=0, uuid="GPU-a", name="A", util=90.0, temp=70.0, sm_clock=1900.0, throttle=["power cap"], ecc_errors=2,
                  mem_used=5, mem_total=8, used_by_run=True)  # fmt: skip
    other = GpuNow(index=1, uuid="GPU-b", name="B", util=99.0, used_by_run=False)
    host = HostNow(cpu=7.0, mem_used=3, mem_total=9, train_rss=1, cpus=16.0)
    lost = GpuNow(index=0, uuid="GPU-a", name="A", note="lost: GPU is lost", used_by_run=True, xids=[Xid(code=79, time=at + 3)])
    seen = [
        HostSample(time=at, gpus=[busy, other], host=host, alarms=[]),
        HostSample(time=at + 1, gpus=[structs.replace(busy, util=None), other], host=host, alarms=[], fresh=False),
        HostSample(time=at + 2, gpus=[structs.replace(busy, throttle=[]), other], host=host, alarms=[], fresh=False),
        HostSample(time=at + 3, gpus=[lost, other], host=host, alarms=[], fresh=False),
        HostSample(time=at + 12, gpus=[lost, other], host=HostNow(cpu=7.0), alarms=[]),
    ]
    writer = Writer(tmp_path / "history.db", on_commit=lambda _: None, clock=SystemClock())
    writer.start()
    reader = Reader(tmp_path / "history.db")
    try:
        keeper = Keeper()
        for sample in seen:
            words, figures = keeper.keep(sample)
            if words is not None:
                writer.gpus(sample.time, words)
            writer.host(sample.time, figures)
        assert writer.flush()
        told = list(machine(reader))
    finally:
        writer.close()
        reader.close()
    theirs = structs.replace(other, util=None)  # somebody else's: only that it is there
    assert [(m.time, m.gpus) for m in told[:-1]] == [(s.time, [s.gpus[0], theirs]) for s in seen]
    assert [m.host for m in told[:-1]] == [s.host for s in seen]


def test_a_process_that_ended_without_a_word_lived_while_its_memory_was_known(tmp_path: Path) -> None:
    at = WALL / 1e9
    writer = Writer(tmp_path / "history.db", on_commit=lambda _: None, clock=SystemClock())
    writer.start()
    reader = Reader(tmp_path / "history.db")
    try:
        for name, mono, branch in (("a", MONO, 0), ("b", MONO + 600 * 10**9, 1)):
            writer.session(name, WALL, MONO, 1)
            begun = Happening(1, 0, branch, mono, SessionStart(pid=1, host="h", branch=branch))
            assert writer.records(name, [begun, Point(2, 0, branch, mono + 10**9, ("loss",), (2.0,))])
        for second in range(0, 300, 10):
            writer.host(at + second, {"host.cpu": 5.0, "host.train_rss": 7.0 if second <= 200 else None})
        assert writer.flush()
        began = [(round(i.time - at), i.alive) for i in from_run(reader, "x").items if isinstance(i, Began)]
    finally:
        writer.close()
        reader.close()
    assert began == [(0, True), (200, False), (600, True), (601, False)]
