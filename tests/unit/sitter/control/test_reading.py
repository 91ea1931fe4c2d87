"""What lies in the recorder's files is read in slices: in order, once, and nothing of the present is taken or done before."""

import contextlib
import time

import msgspec

from sitter.control.early_queries import PATIENCE_S, EarlyQueries
from sitter.ingest import files
from sitter.model import Answered, Finding
from sitter.store.reader import Reader
from sitter.testing.manual_clock import ManualClock
from sitter_agent.recorder import Recorder
from sitter_agent.segments import delete_foreign
from sitter_wire.commands import Pause
from sitter_wire.events import SessionStart
from sitter_wire.queries import Act, GetStatus, Settle
from tests.unit.sitter.control.conftest import living, opened

POINTS, SMALL = 2500, 32 * 1024


@contextlib.contextmanager
def daemon(run):
    """The core of a daemon; what it has not read when this ends is as if it had been killed."""
    with opened(run, on_gone=lambda: core.begin_reading()) as core:
        whole = core.backlog.slice
        core.backlog.slice = lambda seconds=0.0: whole(seconds if seconds >= 1.0 else 0.0)  # as short as can be, on any machine
        yield core


def recorded(run, session, branch):
    """A session of ``POINTS`` values over many segments, whose process is gone; its last sequence number."""
    recorder = Recorder(run.recorder, session, branch=branch, segment_bytes=SMALL)
    recorder.event(SessionStart(pid=1, host="h", branch=branch), 0, branch)
    for step in range(POINTS):
        recorder.log(step, branch, {"loss": 2.0 + branch, "at": float(step)})
    recorder.close()
    return recorder.written


def stored(core):
    """(branch, step) of all that is in the history, in the order in which it came."""
    assert core.writer.flush(60)
    with contextlib.closing(Reader(core.run.history)) as reader:
        found = [(p.session, p.seq, p.branch, p.step) for p in reader.last(10 * POINTS, ["at"])]
    return [(branch, step) for *_, branch, step in found]


def all_of(*branches):
    return [(branch, step) for branch in branches for step in range(POINTS)]


def read_on(core, until=lambda: False):
    """Slice by slice, each as short as can be; how many."""
    for slices in range(10_000):
        if until() or core.backlog.slice(0.0):
            return slices
    raise AssertionError("it does not end")


def test_it_is_read_in_slices_and_each_record_comes_once(run):
    recorded(run, "a", 0)
    recorded(run, "b", 1)
    with daemon(run) as core:
        assert not core.begin_reading(seconds=0.0)
        core.life.look()
        assert core.life.state() == "starting", "how it ended is not known before it is read"
        assert not core.life.known()
        assert any("still being read" in text for text in core.warnings())
        assert read_on(core) > 10
        assert core.read_on()
        core.life.look()
        read_on(core)  # it looks once more when it sees that the process is gone
        assert core.life.state() == "crashed"
        assert not any("still being read" in text for text in core.warnings())
        assert stored(core) == all_of(0, 1)
        assert core.present.session.id == "b"


def test_what_is_read_by_half_the_next_daemon_reads_on(run):
    recorded(run, "a", 0)
    with daemon(run) as core:
        core.begin_reading(seconds=0.0)
        read_on(core, lambda: core.intake.wanted("a") > POINTS // 2)
        assert core.backlog.unread
    with daemon(run) as core:
        assert core.read_files()
        assert stored(core) == all_of(0)


def test_begun_anew_in_the_midst_of_it_nothing_comes_twice(run):
    recorded(run, "a", 0)
    with daemon(run) as core:
        for _ in range(5):
            core.begin_reading(seconds=0.0)
            wanted = core.intake.wanted("a")
            read_on(core, lambda before=wanted: core.intake.wanted("a") > before + 700)
        read_on(core)
        assert stored(core) == all_of(0)


def test_what_the_living_one_says_is_taken_when_all_before_it_is_read_and_its_files_are_left(run):
    recorded(run, "a", 0)
    recorded(run, "b", 1)
    with daemon(run) as core, living(run, "b"):
        core.begin_reading(seconds=0.0)
        assert not core.speaks("b")
        assert core.reading
        assert core.life.state() == "starting"
        slices = read_on(core, lambda: core.speaks("b"))
        assert slices > 5
        assert core.intake.wanted("a") > POINTS
        assert core.speaks("b")
        assert core.present.session.id == "b"
        assert core.intake.wanted("b") == 1, "it comes by its shipments"
        read_on(core)
        assert core.intake.wanted("b") == 1
        assert core.life.state() != "crashed"


def test_of_the_living_one_is_read_what_there_is_until_it_speaks(run):
    last = recorded(run, "b", 0)
    with daemon(run) as core, living(run, "b"):
        core.begin_reading(seconds=0.0)
        read_on(core, lambda: core.intake.wanted("b") > 1000)
        assert not core.reading, "nothing was before it"
        assert core.speaks("b")
        wanted = core.intake.wanted("b")
        read_on(core)
        assert core.intake.wanted("b") == wanted
        core.begin_reading(seconds=60.0)  # its process is gone
        assert core.intake.wanted("b") == last + 1
        assert stored(core) == all_of(0)


def test_it_may_have_spoken_first_with_what_comes_later_and_is_listened_to_all_the_same(run):
    """Its first shipments may begin anywhere: a daemon before this one may have had what precedes them."""
    recorded(run, "a", 0)
    with daemon(run) as core, living(run, "b"):
        core.read_files()
        assert core.present.session.id == "a"
        read_on(core, lambda: core.speaks("b"))
        assert core.speaks("b"), "also where nothing could be taken of what it said first"


def test_while_the_past_is_read_nothing_is_done(run):
    recorded(run, "a", 0)
    with daemon(run) as core, living(run, "b"):
        core.begin_reading(seconds=0.0)
        core._began -= 3600.0
        hot = core.dispatcher.settings["gpu_hot"]
        core.dispatcher.settings["gpu_hot"] = msgspec.structs.replace(hot, mode="act", delay=0.001)
        core.dispatcher.finding(
            Finding(rule="gpu_hot", severity="critical", step=5, branch=0, onset=4, text="hot", key="gpu_hot:0:4", actions=[Pause()])
        )
        time.sleep(0.002)
        core.tick()
        assert core.backlog.unread
        assert core.dispatcher.proposals
        assert not core.orders.standing()
        read_on(core)
        core.tick()
        assert not core.dispatcher.proposals


def test_what_the_cap_takes_away_while_it_is_read_is_counted(run):
    """The living session makes room in the midst of it: all that was left of the dead one goes."""
    last = recorded(run, "a", 0)
    with daemon(run) as core:
        core.begin_reading(seconds=0.0)
        read_on(core, lambda: core.intake.wanted("a") > 1000)
        for path in files.segments(run.recorder / "a"):
            delete_foreign(path)
        read_on(core)
        assert core.intake.wanted("a") == last + 1
        assert core.gaps.total > 1000
        assert len(stored(core)) + core.gaps.total == POINTS


def test_what_needs_the_past_is_answered_when_it_is_read_or_refused():
    clock, reading, asked, answers = ManualClock(), [True], [], []
    early = EarlyQueries(lambda query, answer: asked.append(query), lambda: reading[0], clock)
    early(GetStatus(), answers.append)
    assert len(asked) == 1
    early(Settle(), answers.append)
    early.look()
    assert len(asked) == 1
    assert not answers
    clock.advance(PATIENCE_S)
    early.look()
    (refused,) = answers
    assert isinstance(refused, Answered)
    assert (refused.status, len(asked)) == ("rejected", 1)
    early(Act(action=Pause()), answers.append)
    reading[0] = False
    early.look()
    early.look()
    assert [type(query) for query in asked] == [GetStatus, Act]
    early(Settle(), answers.append)
    assert len(asked) == 3
    assert len(answers) == 1
