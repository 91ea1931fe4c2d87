"""What a process is writing at this moment is taken as far as it is whole, and the rest later; what a dead one left is taken to its end."""

import subprocess
import sys

import pytest

from sitter.clock import SystemClock
from sitter.config import load
from sitter.control.core import Core
from sitter.paths import look
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_agent.recorder import Recorder
from sitter_wire import rundir
from sitter_wire.records import OVERHEAD, decode_stream, point_struct, point_word

HOLDER = """
import fcntl, json, os, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
json.dump({"pid": os.getpid(), "session": "s"}, lock)
lock.flush()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def core(tmp_path):
    run = rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")
    writer = Writer(run.history, on_commit=lambda _: None, clock=SystemClock())
    writer.start()
    reader = Reader(run.history)
    yield Core(
        run=run, info=look(run).info, config=load(run.sitter_toml), preset="guard", clock=SystemClock(), writer=writer, reader=reader,
        send=lambda _: True, notify=lambda *_: None, on_gone=lambda: None,
    )  # fmt: skip
    writer.close()
    reader.close()


def half_written(core) -> tuple[int, int]:
    """(its number, the last number) of a session of whose records one in the middle is not yet in the file, as a
    reader sees it that crosses a page while it is written."""
    recorder = Recorder(core.run.recorder, "s")
    for step in range(10):
        recorder.log(step, 0, {"loss": float(step)})
    stretch = recorder.stretch(1, 1 << 20)
    assert stretch is not None
    records = decode_stream(stretch.raw, {k: tuple(v) for k, v in stretch.header.schemas.items()}, 1, stretch.header.count)
    path = next((core.run.recorder / "s").glob("*.rec"))
    data = bytearray(path.read_bytes())
    middle = records[5].seq
    size = OVERHEAD + 8
    begin = data.index(point_struct(1).pack(point_word(2, 1), records[5].step, 0, records[5].time, records[5].values[0], middle))
    data[begin : begin + size] = bytes(size)
    path.write_bytes(data)
    recorder.close()
    return middle, records[-1].seq


@pytest.mark.parametrize("lives", [True, False])
def test_of_a_living_session_only_what_is_whole_is_taken(core, lives):
    middle, last = half_written(core)
    lock = core.run.agent_lock
    process = subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        if not lives:
            process.kill()
            process.wait()
        core.read_files()
        assert core.intake.wanted("s") == (middle if lives else last + 1)
    finally:
        process.kill()
        process.communicate()
