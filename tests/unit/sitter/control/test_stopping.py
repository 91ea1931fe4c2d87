"""A stop stands until it is settled, also where the process that had it dies, and where the next one has not spoken yet."""

import contextlib
import json
import subprocess
import sys
import time

import pytest

from sitter.clock import SystemClock
from sitter.control.inbox import Inbox
from sitter.control.stopping import Stopping
from sitter.store.reader import Reader
from sitter.supervise.pending import CALLED_OFF
from sitter_wire import rundir
from sitter_wire.commands import Outcome, Stop
from tests.unit.sitter.control.conftest import opened

PARENT = """
import fcntl, signal, sys, time
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
signal.signal(signal.SIGUSR2, lambda *_: print("called off", flush=True))
print("holds", flush=True)
time.sleep(600)
"""


@pytest.fixture
def core(tmp_path):
    """A supervised run's core, with a session ``a`` of process 1 that lives."""
    with opened(rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")) as made:
        made.life.look = lambda: None
        lives(made, "a", 1)
        yield made


@pytest.fixture
def parent(core):
    """A process that holds the run's parent.pid as the small parent does, and prints what it is told."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(core.run.path / "parent.pid")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def lives(core, session, pid):
    core.flow.session(session, (time.time_ns(), time.monotonic_ns()), pid)
    core.life.pid, core.life.undecided = pid, False


def dies(core):
    """As the core's look has it: the process first, and then what it never answered."""
    core.life.pid, core.life.undecided, core.life.gone_at = None, True, time.monotonic()
    core.flow.sessions_over(set())


@pytest.fixture
def stopping(core):
    inbox = Inbox()
    yield Stopping(core.run, core, SystemClock(), inbox)
    inbox.close()


def ordered(core):
    return [s.command.session for s in core.orders.standing(Stop)]


def test_it_does_not_die_with_the_process_that_had_it_and_the_restart_is_called_off(core, stopping, parent):
    answers = []
    stopping.ask(Stop(checkpoint=True), 60.0, answers.append)
    assert ordered(core) == ["a"]
    dies(core)
    assert parent.stdout.readline() == "called off\n", "at once: the pause may be shorter than the second until the next look"
    assert answers == []
    stopping.tick()
    assert parent.stdout.readline() == "called off\n", "again: it may just have been starting the next one when it was told"
    core.run.exit_json.write_text(json.dumps({"code": None, "signal": 9, "called_off": True}))
    core.life.undecided = False
    stopping.tick()
    assert [(a.status, a.text) for a in answers] == [("applied", CALLED_OFF)]
    core.writer.flush()
    with contextlib.closing(Reader(core.run.history)) as reader:
        told = [(e.kind, e.status) for e in reader.logbook() if (e.action or "").endswith("stop")]
    assert told == [("command", "sent"), ("outcome", "expired"), ("outcome", "applied")]


def test_where_the_next_one_was_quicker_it_goes_to_that_as_soon_as_it_speaks(core, stopping):
    answers = []
    stopping.ask(Stop(), 60.0, answers.append)
    dies(core)
    core.life.pid, core.life.undecided = 2, False
    stopping.tick()
    assert ordered(core) == [], "it has no session yet, and what is there is the dead one's"
    lives(core, "b", 2)
    stopping.tick()
    assert ordered(core) == ["b"]
    (standing,) = core.orders.standing(Stop)
    core.orders.outcome(Outcome(id=standing.command.id, status="applied", step=7, branch=1, text="stopped after step 7"))
    assert [(a.status, a.step) for a in answers] == [("applied", 7)]
    stopping.tick()
    assert len(answers) == 1


def test_where_nothing_is_started_again_it_has_expired_with_the_process(core, stopping):
    answers = []
    stopping.ask(Stop(), 60.0, answers.append)
    dies(core)
    core.life.undecided = False
    stopping.tick()
    assert [a.status for a in answers] == ["expired"]
    assert "ended before it could be applied" in answers[0].text


def test_who_never_calls_start_is_not_waited_for_longer_than_was_asked(core, stopping):
    answers = []
    core.life.pid = 2
    stopping.ask(Stop(), 0.0, answers.append)
    assert [a.status for a in answers] == ["unanswered"]
    assert "has not called start yet" in answers[0].text
    assert "`sitter stop --now`" in answers[0].text
    assert ordered(core) == []


def test_nothing_is_asked_of_what_is_over(core, stopping):
    answers = []
    core.life.pid, core.life.gone_at = None, 0.0
    stopping.ask(Stop(), 60.0, answers.append)
    assert [a.status for a in answers] == ["rejected"]
    assert answers[0].text.startswith("nothing to act on: the training is ")
