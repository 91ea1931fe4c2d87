import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from sitter.supervise.identity import identity
from sitter.supervise.launch import launch
from sitter.supervise.parent import TRAIN_PID
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir

Until = Callable[..., Any]


@contextmanager
def started(program: str, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, **options)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


SLEEPS = "import signal; print('up', flush=True)\nwhile True: signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
BUSY = "print('up', flush=True)\nwhile True: pass"


def test_states(until: Until) -> None:
    with started(SLEEPS) as sleeping, started(BUSY) as busy:
        until(lambda: TrainingProcess.of(sleeping.pid).state() == "sleeping")
        until(lambda: TrainingProcess.of(busy.pid).state() == "running")
        process = TrainingProcess.of(sleeping.pid)
        sleeping.send_signal(signal.SIGSTOP)
        until(lambda: process.state() == "stopped")
        assert process.alive()
        sleeping.kill()
        until(lambda: process.state() == "zombie")
        assert not process.alive()
        sleeping.wait()
        assert process.state() == "gone"


def test_a_pid_that_is_nobodys() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    process = TrainingProcess.of(ended.pid)
    assert process.state() == "gone"
    assert "already ended" in process.terminate_group()


def test_a_reused_pid_is_not_taken_for_the_training(run: RunDir) -> None:
    with started(SLEEPS) as somebody:
        right = identity(somebody.pid, 0.0, run.path)
        (run.path / TRAIN_PID).write_text(json.dumps(right))
        found = TrainingProcess.find(run)
        assert found is not None
        assert found.alive()
        for wrong in ({"ticks": right["ticks"] - 1}, {"boot": "another"}):
            (run.path / TRAIN_PID).write_text(json.dumps(right | wrong))
            found = TrainingProcess.find(run)
            assert found is not None
            assert not found.alive()
            found.terminate_group()
            assert somebody.poll() is None
        created = psutil.Process(somebody.pid).create_time()  # a system without /proc
        for said, alive in ((created, True), (created - 60, False)):
            (run.path / TRAIN_PID).write_text(json.dumps({"pid": somebody.pid, "started": said, "ticks": None, "boot": None}))
            found = TrainingProcess.find(run)
            assert found is not None
            assert found.alive() is alive


def test_a_group_that_has_the_number_of_one_that_is_over_gets_no_signal() -> None:
    """The training and all of its group ended, and somebody's pid, and group, became what theirs was."""
    with started(SLEEPS, process_group=0) as ours, started(SLEEPS, process_group=0) as somebody:
        over, theirs = psutil.Process(ours.pid), psutil.Process(somebody.pid)
        process = TrainingProcess(somebody.pid, over)
        ours.kill()
        ours.wait()
        assert theirs not in process._members()
        assert theirs not in process._members({over})
        assert theirs in process._members({over, theirs})


def test_a_copy_of_a_run_has_no_training_to_be_shown_or_ended(run: RunDir, tmp_path: Path) -> None:
    with started(SLEEPS) as training:
        (run.path / TRAIN_PID).write_text(json.dumps(identity(training.pid, 0.0, run.path)))
        copy, moved = RunDir(tmp_path / "copy"), RunDir(tmp_path / "moved")
        shutil.copytree(run.path, copy.path)
        there, here = TrainingProcess.find(run), TrainingProcess.find(copy)
        assert there is not None
        assert here is not None
        assert (there.alive(), here.alive()) == (True, False)
        here.terminate_group()
        assert training.poll() is None
        run.path.rename(moved.path)
        found = TrainingProcess.find(moved)
        assert found is not None
        assert found.alive(), "it was moved under the training's feet, and is its run still"


def test_the_training_in_a_shell_has_as_long_for_its_last_checkpoint(run: RunDir, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell dies of the SIGTERM at once; its workers have less time than the training in it."""
    monkeypatch.setattr("sitter.supervise.process.LEFTOVERS_S", 0.0)
    saves = (
        "import json, os, pathlib, signal, sys, time\nrun = pathlib.Path(os.environ['SITTER_RUN'])\n"
        "def told(*_): time.sleep(0.5); (run / 'saved').touch(); sys.exit(0)\nsignal.signal(15, told)\n"
        "(run / 'agent.lock').write_text(json.dumps({'pid': os.getpid(), 'session': 's'}))\nprint('up', flush=True)\n"
        "while True: time.sleep(0.01)"  # no pause: a signal that came just before it would not end it
    )
    (run.path / "train.py").write_text(saves)
    launch(run, ["sh", "-c", f"{sys.executable} '{run.path}/train.py'; exit 7"], grace_s=0)
    until(lambda: "up" in run.train_log.read_text())
    found = TrainingProcess.find(run)
    assert found is not None
    assert found.terminate_group(200.0) == "SIGTERM"
    assert (run.path / "saved").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"pid": "x", "started": 1}', '{"pid": 9}'])
def test_a_damaged_pid_file_is_no_process(run: RunDir, text: str) -> None:
    (run.path / TRAIN_PID).write_text(text)
    assert TrainingProcess.find(run) is None


@pytest.mark.parametrize("pid", [1, 0, -1])
def test_a_pid_that_means_more_than_one_process_is_refused(run: RunDir, pid: int) -> None:
    """A signal to process 0 or -1, or to the group of init, goes to everybody."""
    (run.path / TRAIN_PID).write_text(json.dumps({"pid": pid, "started": 1.0, "ticks": None, "boot": None}))
    assert TrainingProcess.find(run) is None
    process = TrainingProcess.of(pid)
    assert process.state() == "gone"
    assert process._members() == set()


def test_no_parent_no_process(run: RunDir) -> None:
    assert TrainingProcess.find(run) is None


def test_terminating_gently() -> None:
    with started(SLEEPS, process_group=0) as process:
        assert TrainingProcess.of(process.pid).terminate_group(200.0) == "SIGTERM"
        assert process.wait() == -signal.SIGTERM


def test_terminating_what_does_not_listen() -> None:
    with started(DEAF, process_group=0) as process:
        assert TrainingProcess.of(process.pid).terminate_group(grace_s=0.2) == "SIGKILL"
        assert process.wait() == -signal.SIGKILL


def test_terminating_what_is_stopped_does_not_wait_for_the_kill() -> None:
    with started(SLEEPS, process_group=0) as process:
        process.send_signal(signal.SIGSTOP)
        assert TrainingProcess.of(process.pid).terminate_group(grace_s=200) == "SIGTERM"


def test_workers_that_outlive_the_training_are_ended_too(run: RunDir, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sitter.supervise.process.LEFTOVERS_S", 0.2)
    program = f"import subprocess, sys, signal; subprocess.Popen([sys.executable, '-c', {DEAF!r}]); signal.pause()"
    launched = launch(run, [sys.executable, "-c", program], grace_s=0)
    until(lambda: "up" in run.train_log.read_text())
    worker = psutil.Process(launched.pid).children()[0]
    found = TrainingProcess.find(run)
    assert found is not None
    assert found.terminate_group(200.0) == "SIGTERM"
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_a_script_that_shares_its_group_with_the_training_is_left_alone(tmp_path: Path, until: Until) -> None:
    """``bash night.sh`` runs one training after another: ending one must not end the night."""
    pids, child = tmp_path / "pid", tmp_path / "worker"
    program = (
        f"import os, pathlib, signal, subprocess, sys\nworker = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"pathlib.Path({str(child)!r}).write_text(str(worker.pid))\n"
        f"pathlib.Path({str(pids)!r}).write_text(str(os.getpid()))\nsignal.pause()"
    )
    (tmp_path / "train.py").write_text(program)
    night = f"{sys.executable} {tmp_path / 'train.py'}; echo next; exit 5"
    shell = subprocess.Popen(["sh", "-c", night], process_group=0, stdout=subprocess.DEVNULL)
    try:
        pid = int(until(lambda: pids.exists() and pids.read_text()))
        worker = psutil.Process(int(child.read_text()))
        assert os.getpgid(pid) == shell.pid
        assert TrainingProcess.of(pid).terminate_group(200.0) == "SIGTERM"
        assert shell.wait(60) == 5
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
