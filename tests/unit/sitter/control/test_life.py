"""Is it alive, and if not, how did it end? Where nobody was left to write it down."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sitter.locks import take
from sitter.offline import Offline
from sitter.supervise.identity import boot_id, identity
from sitter.supervise.parent import TRAIN_PID
from sitter_agent.recorder import Recorder
from sitter_wire import rundir
from sitter_wire.events import GoodBye, Paused, SessionStart
from sitter_wire.queries import GetStatus
from tests.unit.sitter.control.conftest import living, opened


@pytest.fixture
def run(tmp_path):
    return rundir.create(tmp_path, "t", command=["python", "train.py"], supervised=True, sockets="", version="0")


def state(run):
    with contextlib.closing(Offline(run)) as offline:
        return offline.ask(GetStatus()).state


def started(run, pid, **other):
    (run.path / TRAIN_PID).write_text(json.dumps({**identity(pid, time.time(), run.path), **other}))


def test_a_script_without_an_agent_that_a_power_cut_ended_has_crashed(run):
    """No session, no exit.json, and no parent that could still write one: only that it was started."""
    assert state(run) == "starting"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        started(run, process.pid)
        assert state(run) == "starting"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert state(run) == "crashed"


@pytest.mark.parametrize("other", [{"boot": "an earlier one"}, {"ticks": 1}])
def test_another_process_that_has_its_number_by_now_is_not_taken_for_it(run, other):
    """After a reboot numbers are given anew, and soon."""
    assert boot_id() is not None
    started(run, os.getpid(), **other)
    assert state(run) == "crashed"


def test_a_run_directory_that_was_moved_tells_nothing_of_its_training(run, tmp_path):
    """It would be called crashed, and `--then` may switch the machine off."""
    gone = []
    with living(run, "s") as process, opened(run, on_gone=lambda: gone.append(True)) as core:
        life = core.life

        def is_said():
            return any("was moved or removed: put it back" in text for text in core.board.status().warnings)

        life.look()
        assert (life.pid, is_said()) == (process.pid, False)
        run.path.rename(tmp_path / "elsewhere")
        for another in (False, True):
            if another:
                run.path.mkdir()
            life.look()
            assert (life.pid, is_said()) == (process.pid, True)
        run.path.rmdir()
        (tmp_path / "elsewhere").rename(run.path)
        life.look()
        assert not is_said()
        run.path.rename(tmp_path / "elsewhere")
        process.kill()
        process.wait()
        life.look()
        assert (life.alive, gone) == (False, [True])


def test_a_run_directory_that_only_has_another_number_by_now_was_not_moved(run, tmp_path):
    """As on some network file systems: this daemon's lock lies in it."""
    with take(run.daemon_lock), opened(run) as core:
        run.path.rename(tmp_path / "elsewhere")
        run.path.mkdir()
        core.life.look()
        assert core.life.moved
        for path in (tmp_path / "elsewhere").iterdir():
            path.rename(run.path / path.name)
        core.life.look()
        assert not core.life.moved


def test_one_whose_parent_lives_is_about_to_be_told_of(run):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", hold, str(run.path / "parent.pid")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "held\n"
        started(run, os.getpid(), ticks=1)
        assert state(run) == "starting", "its last word is exit.json"
        parent.stdin.close()


@pytest.mark.parametrize("paused", [False, True])
def test_one_that_was_started_again_and_has_not_spoken_yet_is_starting(run, paused):
    """It imports, or loads its data, for minutes maybe; what is known is of the one before, and does not run any more."""
    recorder = Recorder(run.recorder, "20260101T000000-aaaaaaaa")
    recorder.event(SessionStart(pid=7, host="h", branch=0, argv=[], versions={}), 0, 0)
    recorder.log(1, 0, {"loss": 1.0})
    if paused:
        recorder.event(Paused(paused=True), 1, 0)
    recorder.close()
    started(run, os.getpid(), started=time.time() - 60.0)
    assert state(run) == ("paused" if paused else "running"), "a shell script whose training that was"
    started(run, os.getpid())
    assert state(run) == "starting"


@pytest.mark.parametrize("goodbye", ["stopped", "total"])
def test_one_that_a_power_cut_ended_as_it_imported_has_crashed_however_the_last_session_ended(run, goodbye):
    """A run that was stopped, or had come to its total, and was started again: what it said then is not said of this process."""
    recorder = Recorder(run.recorder, "20260101T000000-aaaaaaaa")
    recorder.event(SessionStart(pid=7, host="h", branch=0, argv=[], versions={}), 0, 0)
    recorder.log(1, 0, {"loss": 1.0})
    recorder.event(GoodBye(how=goodbye), 1, 0)
    recorder.close()
    (run.path / TRAIN_PID).write_text(json.dumps({**identity(7, time.time() - 60.0, run.path), "boot": "an earlier one"}))
    assert state(run) == {"stopped": "stopped", "total": "finished"}[goodbye]
    started(run, 7, boot="an earlier one")
    assert state(run) == "crashed"
