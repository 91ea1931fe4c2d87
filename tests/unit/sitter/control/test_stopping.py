"""A stop stands until it is settled, also where the process that had it dies, and where the next one has not spoken yet."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from sitter.actions.notify.notifier import Notifications
from sitter.clock import SystemClock
from sitter.control import stopping as stopping_module
from sitter.control.ending import Ending
from sitter.control.inbox import Inbox
from sitter.control.stopping import Stopping
from sitter.model import EndAndRestart, Finding
from sitter.store.reader import Reader
from sitter.supervise.identity import boot_id, start_ticks
from sitter.supervise.parent import TRAIN_PID
from sitter.supervise.pending import CALLED_OFF
from sitter.supervise.process import TrainingProcess
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
    assert answers[0].text.startswith("nothing to act on: the training does not run (")


# -- what fails on the way ---------------------------------------------------------------------------------------------------


class BrokenError(Exception):
    """Of our own."""


def broken(*_):
    raise BrokenError("the table of processes cannot be read")


def no_thread(self):
    raise RuntimeError("can't start new thread")


@pytest.fixture
def training(core):
    """A process that is the run's training, as its parent tells it; the core has it for the living one."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as process:
        told = {"pid": process.pid, "started": time.time(), "ticks": start_ticks(process.pid), "boot": boot_id()}
        (core.run.path / TRAIN_PID).write_text(json.dumps(told))
        lives(core, "a", process.pid)
        yield process
        process.kill()


def until(inbox, answers):
    """Turn the loop until somebody has answered."""
    end = time.monotonic() + 60
    while not answers and time.monotonic() < end:
        inbox.run()
        time.sleep(0.001)


WAYS = [(TrainingProcess, "terminate_group", broken), (threading.Thread, "start", no_thread)]


@pytest.mark.parametrize(("of", "name", "fails"), WAYS)
def test_a_stop_at_once_that_fails_is_answered_and_what_lives_is_not_called_stopped(core, training, monkeypatch, of, name, fails):
    inbox, answers = Inbox(), []
    stopping = Stopping(core.run, core, SystemClock(), inbox)
    monkeypatch.setattr(of, name, fails)
    stopping.now(answers.append)
    until(inbox, answers)
    inbox.close()
    (said,) = answers
    assert said.status == "rejected"
    assert f"process {training.pid}) lives" in said.text
    assert ("the table" if of is TrainingProcess else "thread") in said.text
    assert training.poll() is None
    assert (core.life.stopped_session, core.life.stopped_process) == (None, None), "it may die of anything yet"
    core.writer.flush()
    with contextlib.closing(Reader(core.run.history)) as reader:
        assert (reader.get("stopped_session"), reader.get("stopped_process")) == (None, None)


def test_where_it_died_of_it_all_the_same_that_is_said(core, training, monkeypatch):
    inbox, answers = Inbox(), []
    stopping = Stopping(core.run, core, SystemClock(), inbox)

    def kills_and_fails(self):
        training.kill()
        training.wait()
        broken()

    monkeypatch.setattr(TrainingProcess, "terminate_group", kills_and_fails)
    stopping.now(answers.append)
    until(inbox, answers)
    inbox.close()
    assert [a.status for a in answers] == ["unanswered"]
    assert "No training process lives" in answers[0].text
    assert core.life.stopped_process is not None, "it was ours"


@pytest.mark.parametrize(("of", "name", "fails"), WAYS)
def test_a_rule_that_cannot_end_a_training_says_so_to_everybody(core, training, monkeypatch, of, name, fails):
    told, inbox = [], Inbox()
    core.tell = lambda *words: told.append(words)
    with contextlib.closing(Reader(core.run.history)) as reader:
        nobody = Notifications(core.config.notify, "t", on_result=lambda *_: None)
        ending = Ending(core.run, core.info, core, nobody, reader, SystemClock())
    monkeypatch.setattr(of, name, fails)
    finding = Finding(rule="stalled", severity="critical", text="hung", step=1, branch=0, onset=1, evidence={}, actions=[], key="stalled:1")
    ending.end_to_restart(EndAndRestart(why="hung"), finding, inbox)
    until(inbox, told)
    inbox.close()
    (event, text, _), = told
    assert event == "acted"
    assert "not ended" in text
    assert core.life.ended_by_rule is None
    core.writer.flush()
    with contextlib.closing(Reader(core.run.history)) as reader:
        assert [e.status for e in reader.logbook() if e.rule == "stalled"] == ["sent", "rejected"]


def test_a_dead_process_whose_threads_still_hold_the_lock_is_not_ended_once_more(core, monkeypatch):
    """Its leader is a zombie some milliseconds before its files are closed; what had ended it must not be forgotten for that."""
    with subprocess.Popen(["sleep", "600"]) as process:
        monkeypatch.setattr("sitter.control.stopping.holder", lambda path: process.pid)
        assert stopping_module._living(core.run) is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert stopping_module._living(core.run) is None
