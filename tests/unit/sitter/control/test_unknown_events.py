"""An agent that is newer than its daemon: what the daemon does not understand costs nothing of what it does."""

import contextlib
import sqlite3

import msgspec
from msgspec import defstruct

from sitter.locks import take
from sitter.offline import Offline
from sitter.store.happenings import MOST_UNKNOWN
from sitter.store.reader import Reader
from sitter_agent.recorder import Recorder
from sitter_wire.events import Event, Remark, SessionStart
from sitter_wire.queries import GetStatus
from tests.unit.sitter.control.conftest import opened


class OfTomorrow(Event, frozen=True, tag="of_tomorrow"):
    """A kind of event that this version has never heard of."""

    n: int


def newer_agent(run, session="s"):
    """Its recorder, with an event of its own between the values of every step."""
    recorder = Recorder(run.recorder, session)
    recorder.event(SessionStart(pid=1, host="h", branch=0), 0, 0)
    for step in range(20):
        recorder.log(step, 0, {"loss": float(step)})
        recorder.event(OfTomorrow(n=step), step, 0)  # type: ignore[arg-type]
    recorder.event(Remark(text="the last one"), 19, 0)
    return recorder


def shipped(core, recorder):
    """By shipments of a few records each, as the agent would; the sequence number that the daemon wants next."""
    wanted = 0
    while (next_ := core.intake.wanted(recorder.session)) != wanted:
        wanted = next_
        stretch = recorder.stretch(wanted, 300)
        if stretch is not None:
            core.shipment(stretch.header, bytes(stretch.raw))
    assert core.writer.flush(60)
    return wanted


def told(core):
    with contextlib.closing(Reader(core.run.history)) as reader:
        return [entry.detail for entry in reader.logbook() if "passed by" in (entry.detail or "")]


def test_all_that_is_understood_is_taken_the_rest_is_acknowledged_kept_and_said_once(run):
    with opened(run) as core, contextlib.closing(Reader(run.history)) as reader:
        recorder = newer_agent(run)
        assert shipped(core, recorder) == recorder.written + 1, "nothing waits to be sent again"
        assert reader.sequences() == {"s": recorder.written}
        assert [p.values["loss"] for p in reader.last(100)] == [float(step) for step in range(20)]
        assert [e.happening.event for e in reader.events(["remark"])] == [Remark(text="the last one")]
        (said,) = told(core)
        assert "'of_tomorrow'" in said
        (sentence,) = [text for text in core.warnings() if "newer" in text]
        assert "20 of_tomorrow" in sentence
        recorder.close()
    with contextlib.closing(sqlite3.connect(run.history)) as history:
        kept = [data for (data,) in history.execute("SELECT data FROM events WHERE kind = 'of_tomorrow' ORDER BY seq")]
    assert [msgspec.msgpack.decode(data, type=OfTomorrow) for data in kept] == [OfTomorrow(n=n) for n in range(20)]

    with opened(run) as core:  # the next one takes the history up, and has said it
        recorder = newer_agent(run, "t")
        shipped(core, recorder)
        recorder.close()
        assert len(told(core)) == 1


def test_of_kinds_without_end_it_is_said_that_the_rest_is_not_kept(run):
    with opened(run) as core:
        recorder = Recorder(run.recorder, "s")
        recorder.event(SessionStart(pid=1, host="h", branch=0), 0, 0)
        for n in range(MOST_UNKNOWN + 9):
            recorder.event(defstruct(f"K{n}", [], bases=(Event,), tag=f"k{n}", frozen=True)(), 0, 0)
        shipped(core, recorder)
        recorder.close()
        said = told(core)
    with contextlib.closing(sqlite3.connect(run.history)) as history:
        kept = [kind for (kind,) in history.execute("SELECT kind FROM events WHERE kind LIKE 'k%' AND kind NOT LIKE 'knob%' ORDER BY seq")]
    assert [f"'{kind}'" in text for kind, text in zip(kept, said, strict=False)] == [True] * MOST_UNKNOWN
    assert [text.partition("; it is ")[2][:4] for text in said] == ["kept"] * MOST_UNKNOWN + ["not "]


def test_a_run_without_a_daemon_is_read_as_well(run):
    recorder = newer_agent(run)
    recorder.close()
    with contextlib.closing(Offline(run)) as offline:
        status = offline.ask(GetStatus())
    assert status.signals["loss"].last == 19.0
    assert any("newer" in text for text in status.warnings)
    with contextlib.closing(take(run.daemon_lock)), contextlib.closing(Reader(run.history)) as reader:
        assert reader.sequences() == {"s": recorder.written}
