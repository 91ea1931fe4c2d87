"""A recorded run as a story: all of it in order, by one clock, with what the machine did meanwhile."""

from pathlib import Path

from sitter.clock import SystemClock
from sitter.replay.from_run import from_run
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
    machine = [item for item in items if isinstance(item, Machine)]
    assert [m.gpus[0].temp for m in machine] == [60.0, 70.0, 670.0]
    assert machine[0].host.cpu == 50.0
