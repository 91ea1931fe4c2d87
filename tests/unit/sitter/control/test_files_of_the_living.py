"""What a process is writing at this moment is taken as far as it is whole, and the rest later; what a dead one left is taken to its end."""


import pytest

from sitter_agent.recorder import Recorder
from sitter_wire.records import OVERHEAD, decode_stream, point_struct, point_word
from tests.unit.sitter.control.conftest import living, opened


@pytest.fixture
def core(run):
    with opened(run) as made:
        yield made


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
    with living(core.run, "s") as process:
        if not lives:
            process.kill()
            process.wait()
        core.read_files()
        assert core.intake.wanted("s") == (middle if lives else last + 1)
