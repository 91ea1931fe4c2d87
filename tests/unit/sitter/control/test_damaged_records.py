"""A record of a living session that is damaged: it costs itself, and is not asked for again and again."""

import contextlib

import pytest

from sitter.store.reader import Reader
from sitter_agent.recorder import Recorder
from sitter_wire.events import Remark, SessionStart
from tests.unit.sitter.control.conftest import living, opened


@pytest.mark.parametrize("how", ["shipped", "read from its files"])
def test_it_is_counted_said_once_and_passed_by_and_the_rest_is_taken(run, how):
    with opened(run) as core, contextlib.closing(Reader(run.history)) as reader:
        recorder = Recorder(run.recorder, "s")
        recorder.event(SessionStart(pid=1, host="h", branch=0), 0, 0)
        for step in range(4):
            recorder.log(step, 0, {"loss": float(step)})
            recorder.event(Remark(text=f"remark of {step}"), step, 0)
        written = recorder.written
        path = next((run.recorder / "s").glob("*.rec"))
        with path.open("r+b") as file:  # what the agent has mapped is damaged with it
            data = file.read()
            for step in (1, 2):
                file.seek(data.index(f"remark of {step}".encode()))
                file.write(b"\xff" * 11)
        with living(run, "s") as process:
            if how == "shipped":
                stretch = recorder.stretch(1, 1 << 20)
                assert stretch is not None
                core.shipment(stretch.header, bytes(stretch.raw))
            else:
                process.kill()
                process.wait()
                core.read_files()
        assert core.intake.wanted("s") == written + 1
        assert core.writer.flush(60)
        assert reader.sequences() == {"s": written}
        assert [p.values["loss"] for p in reader.last(100)] == [0.0, 1.0, 2.0, 3.0]
        assert [e.happening.event.text for e in reader.events(["remark"])] == ["remark of 0", "remark of 3"]
        (said,) = [entry.detail for entry in reader.logbook() if "damaged" in (entry.detail or "")]
        assert "and was passed by" in said
        (sentence,) = [text for text in core.warnings() if "damaged" in text]
        assert sentence.startswith("2 records were damaged and passed by")
        recorder.close()
