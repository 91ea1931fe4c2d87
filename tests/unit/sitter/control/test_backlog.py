"""The history's disk is full, really: nothing that was recorded is lost, nobody waits, and it goes on when there is room."""

import contextlib
import subprocess
import time
from pathlib import Path

import pytest

from sitter.store import writer as store
from sitter.store.reader import Reader
from sitter_agent.recorder import Recorder
from sitter_wire import rundir
from tests.unit.agent.conftest import until
from tests.unit.sitter.control.conftest import opened

STEPS = 5000


@pytest.fixture
def small(tmp_path):
    """A file system of 16 MiB in memory."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system to be filled cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with (place / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.fixture
def core(small, monkeypatch):
    monkeypatch.setattr(store, "MOST", 1000)
    with opened(rundir.create(small, "t", command=["x"], supervised=False, sockets="", version="0")) as made:
        yield made
        (small / "filler").unlink(missing_ok=True)


def recorded(core) -> None:
    recorder = Recorder(core.run.recorder, "s", segment_bytes=16 * 1024)
    for step in range(STEPS):
        recorder.log(step, 0, {"loss": float(step)})
    recorder.close()


def stored(core) -> list[float]:
    reader = Reader(core.run.history)
    try:
        found = [v for group in reader.groups() for rows in reader.rows(group) for v in rows.columns[group.names.index("loss")]]
    finally:
        reader.close()
    return sorted(found)


def test_a_full_disk_keeps_nobody_waiting_and_what_is_left_comes_when_there_is_room(core, small):
    recorded(core)
    fill(small)
    until(lambda: core.keep("x", "y" * 100_000) or core.writer.trouble)
    began = time.monotonic()
    assert not core.read_files()
    for _ in range(5):
        core.tick()
    assert time.monotonic() - began < 30.0, "a minute a segment once"
    assert core.unsettled
    assert any("full" in text for text in core.warnings())
    (small / "filler").unlink()
    until(lambda: core.tick() or not core.unsettled)
    assert core.writer.flush(60)
    assert stored(core) == [float(step) for step in range(STEPS)]


def test_with_room_all_is_read_at_once(core):
    recorded(core)
    assert core.read_files()
    assert core.writer.flush(60)
    assert stored(core) == [float(step) for step in range(STEPS)]


def test_a_new_session_waits_until_what_came_before_is_in(core, small):
    recorded(core)
    fill(small)
    until(lambda: core.keep("x", "y" * 100_000) or core.writer.trouble)
    assert not core.speaks("next")
    (small / "filler").unlink()
    until(lambda: core.tick() or core.speaks("next"))
    assert core.intake.wanted("s") > STEPS
