"""Where a training stands is told whatever the disk does, and the daemon's loop never waits for a disk."""

import os
import threading
import time

import pytest

from sitter.clock import SystemClock
from sitter.control.heart import Heart
from sitter.control.inbox import Inbox
from sitter.control.stack_reports import MOST_REPORTS, PATIENCE_S, StackReports, Stacks
from sitter.testing.manual_clock import ManualClock
from sitter_wire import rundir
from sitter_wire.commands import DumpStacks
from sitter_wire.messages import Stacks as Message
from tests.unit.sitter.control.conftest import opened


class Loop:
    """The reports of a run, and as much of a loop as they need."""

    def __init__(self, run) -> None:
        self.run, self.clock, self.inbox = run, ManualClock(), Inbox()
        self.reports = StackReports(run, self.clock, self.inbox.post)
        self.told = []

    def take(self, step=7):
        self.reports.take(stacks(self.run, step), self.told.append)

    def until_told(self, n=1):
        end = time.monotonic() + 60
        while len(self.told) < n and time.monotonic() < end:
            self.inbox.run()
            time.sleep(0.001)
        return self.told[-1]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "train.py").write_text("import time\ntime.sleep(600)  # here\n")
    return rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")


@pytest.fixture
def loop(run):
    made = Loop(run)
    yield made
    made.inbox.close()


def text(run):
    script = run.path.parent / "train.py"
    return f'Thread MainThread (1), most recent call last:\n  File "{script}", line 2, in <module>\n    time.sleep(600)\n'


def stacks(run, step=7):
    return Stacks(at=1.0, session="s", step=step, began=None, how="its control thread", text=text(run), kernel="one, asleep")


def test_the_report_is_written_and_the_line_is_quoted(loop):
    loop.take()
    stood = loop.until_told()
    assert stood.where == "train.py:2 in <module>: `time.sleep(600)  # here`"
    written = (loop.run.path / stood.path).read_text()
    assert written.startswith("session s, step 7, taken by its control thread\nit stands at train.py:2")
    assert "one, asleep" in written
    loop.clock.advance(2 * PATIENCE_S)
    loop.reports.tick()
    assert len(loop.told) == 1


def test_on_a_disk_that_hangs_the_loop_goes_on_and_what_the_stacks_say_is_told(loop):
    hung = loop.run.reports / f"stacks-7-{int(loop.clock.wall())}.txt"
    os.mkfifo(hung)  # to open it is to wait for a reader: as long as one likes
    loop.take()
    loop.reports.tick()
    assert loop.told == []
    first = loop.reports._at_work
    loop.clock.advance(PATIENCE_S)
    loop.reports.tick()
    (stood,) = loop.told
    assert (stood.where, stood.path, stood.threads) == ("train.py:2 in <module>", "", 1)

    loop.take(8)
    assert len(loop.told) == 2, "no second thread is sent after the first"
    assert loop.reports._at_work is first
    reader = os.open(hung, os.O_RDONLY | os.O_NONBLOCK)
    loop.reports._at_work.join(60)
    os.close(reader)
    hung.unlink()
    loop.inbox.run()
    assert len(loop.told) == 2, "what comes too late is no news"
    loop.take(9)
    assert loop.until_told(3).path == f"reports/stacks-9-{int(loop.clock.wall())}.txt", "and it comes back"


def test_a_script_on_a_disk_that_hangs_is_not_waited_for(run, loop):
    """The line itself would be read from there."""
    script = run.path.parent / "train.py"
    script.unlink()
    os.mkfifo(script)
    loop.take()
    loop.clock.advance(PATIENCE_S)
    loop.reports.tick()
    assert [stood.where for stood in loop.told] == ["train.py:2 in <module>"]
    os.close(os.open(script, os.O_WRONLY))  # when it is opened somebody reads, and comes to its end
    loop.reports._at_work.join(60)


def test_where_no_thread_is_to_be_had_the_look_from_outside_is_tried_again(run, monkeypatch):
    inbox = Inbox()
    with opened(run, post=inbox.post) as core, monkeypatch.context() as patched:
        def refuse(thread):
            raise RuntimeError("can't start new thread")

        core.life.pid = os.getpid()
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            core.stillness._asked_at = None
            with pytest.raises(RuntimeError):
                core.stillness.take()
    inbox.close()


def test_the_newest_reports_are_kept(loop):
    for n in range(MOST_REPORTS + 5):
        loop.clock.advance(1.0)
        loop.take(n)
        loop.until_told(n + 1)
    kept = sorted(int(p.stem.split("-")[1]) for p in loop.run.reports.glob("stacks-*.txt"))
    assert kept == list(range(5, MOST_REPORTS + 5))


def test_an_operators_dump_is_answered_with_the_line_and_where_it_is_written(run):
    """Through the heart: the order's outcome, the logbook's line and what the rules see come of one answer."""
    inbox = Inbox()
    with opened(run, post=inbox.post) as core:
        core.flow.session("s", (time.time_ns(), time.monotonic_ns()), 1)
        answers = []
        order = core.orders.give(DumpStacks(), session="s", by="operator", wait=60.0, done=answers.append)
        core.stillness._session = "s"
        heart = Heart("i", core, None, SystemClock())
        heart.message(Message(id=order.id, text=text(run)))
        end = time.monotonic() + 60
        while not answers and time.monotonic() < end:
            inbox.run()
            time.sleep(0.001)
        (outcome,) = answers
        assert "stands at train.py:2" in outcome.text
        assert "reports/stacks-0-" in outcome.text
        assert core.view.stood.where.startswith("train.py:2")
    inbox.close()
