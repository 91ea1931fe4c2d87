"""Where two faults meet, what was asked for is done, refused with a reason, or as if it had never been asked; and the run is whole.

Real trainings, daemons and commands. The trainings can be held inside a restore: it begins by leaving the file ``inside``, and goes on
when the file ``hold`` is gone. So the second fault comes in the midst of the first, and not somewhere near it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sitter.drill.disk_full import fill
from sitter.locks import holder
from sitter.supervise.boots import read_boots
from sitter.supervise.daemon_process import start_daemon
from sitter_wire.places import RunDir
from tests.integration.conftest import Shell, past_its_launch
from tests.reliability.figures.untouchable import mount_small, until

slow = pytest.mark.slow
"""Those that wait for something, or whose like is among the others; the rest takes two seconds each where there is room."""
LONG = 100.0
"""For what another process does; where there is room it is waited for some hundredths of a second."""

TRAINING = """
    import os, pathlib, sitter_agent, sys, time
    weight, hold = {"w": 0.0}, pathlib.Path("hold")
    def load(state):
        if hold.exists():
            pathlib.Path("inside").touch()
        while hold.exists():
            time.sleep(0.01)
        weight.update(state)
    agent = sitter_agent.start(name=sys.argv[1] if len(sys.argv) > 1 else None, daemon=len(sys.argv) < 2)
    agent.state(save=lambda: dict(weight), load=load)
    print("begins", os.getpid(), agent.step, weight["w"], flush=True)
    for step in agent.steps(1_000_000):
        assert weight["w"] == step, (weight["w"], step)     # whatever meets: state and counter are of the same step
        weight["w"] += 1.0
        agent.log(loss=2.0, w=weight["w"])
        time.sleep(0.002)
    print("ends", agent.step, weight["w"], flush=True)
"""
SETTINGS = "[restart]\npause = 0.3\n[checkpoints]\nhealthy_steps = 40\n"


@pytest.fixture
def plain(sitter, script, start, tmp_path):
    """A training without a parent, whose daemon is started by us alone: (training, run)."""
    training = start(sys.executable, "-u", str(script(TRAINING)), "x")
    training.stdout.readline()
    run = RunDir(tmp_path / "sitter-runs" / "x")
    start_daemon(run)
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 100)
    return training, run


@pytest.fixture
def asked(start):
    """Asks ``sitter …`` without waiting for the answer."""
    return lambda *words: start(sys.executable, "-m", "sitter.cli.main", *words)


def supervised(place: Path, script, *, restart: int = 5):
    """``sitter run`` in ``place``, some steps on: (the process in front, run)."""
    (place / "sitter.toml").write_text(SETTINGS)
    words = [sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", "x", "--restart", str(restart), "--"]
    words += [sys.executable, str(script(TRAINING))]
    nowhere = subprocess.DEVNULL
    front = subprocess.Popen(words, cwd=place, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    Shell(place).until(lambda s: s["state"] == "running" and s["step"] > 100)
    run = RunDir(place / "sitter-runs" / "x")
    past_its_launch(run)
    return front, run


def pid_of(run: RunDir) -> int:
    return int(json.loads((run.path / "train.pid").read_text())["pid"])


def begins(run: RunDir) -> list[list[str]]:
    return [row.split()[1:] for row in run.train_log.read_text().splitlines() if row.startswith("begins")]


def answer(command) -> str:
    """Exit code 0, or 1 with one sentence; never a traceback, never for ever."""
    said = command.communicate(timeout=2 * LONG)[0].strip()
    assert command.returncode in (0, 1), said
    assert "Traceback" not in said
    assert said, "no word about what became of it"
    if command.returncode:
        assert len(said.splitlines()) == 1, said
    return said


def goes_on(sitter, training=None, branch: int | None = None) -> dict:
    """It steps, on ``branch``; the state has not been torn from its counter, since the training looks itself at every step."""
    # What a daemon that was killed had not stored comes to the next one bit by bit: that it steps on an earlier branch is the past.
    first = sitter.until(
        lambda s: s["state"] == "running" and s["daemon"] and s["agent"]["last_seen_s"] is not None and branch in (None, s["branch"])
    )
    status = sitter.until(lambda s: s["state"] == "running" and (s["branch"], s["step"]) > (first["branch"], first["step"] + 50))
    assert training is None or training.poll() is None
    return status


def outcomes(sitter, action: str) -> list[dict]:
    return [e for e in sitter.lines("logbook") if e["kind"] == "outcome" and (e["action"] or "").startswith(action)]


def held_rollback(asked, tmp_path):
    """A rollback in the midst of its restore."""
    (tmp_path / "hold").touch()
    command = asked("rollback")
    until(lambda: (tmp_path / "inside").exists(), LONG, "the restore never began")
    return command


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)


# -- during a rollback -----------------------------------------------------------------------------------------------------


def test_the_daemon_dies_during_a_rollback(plain, sitter, asked, tmp_path):
    training, run = plain
    command = held_rollback(asked, tmp_path)
    kill(holder(run.daemon_lock))
    until(lambda: holder(run.daemon_lock) is None, LONG, "it was not killed")
    (tmp_path / "hold").unlink()
    start_daemon(run)
    goes_on(sitter, training, branch=1)  # it was on its way, and is done
    (outcome,) = [e for e in sitter.lines("logbook") if e["kind"] == "outcome"]
    assert outcome["status"] == "applied"
    asked_at = time.monotonic()
    said = answer(command)
    assert time.monotonic() - asked_at < 30, "it need not wait for a daemon that is gone"  # which it would for 75 s
    assert command.returncode == 1
    assert "the daemon of x ended while this was on its way" in said
    assert "sitter logbook" in said


def test_the_training_dies_during_a_rollback(plain, sitter, asked, tmp_path):
    training, _ = plain
    command = held_rollback(asked, tmp_path)
    training.kill()
    said = answer(command)
    assert command.returncode == 1
    assert "ended" in said
    status = sitter.until(lambda s: s["state"] == "crashed")
    assert status["branch"] == 0, "as if it had never been asked"
    assert [e["status"] for e in outcomes(sitter, "rollback")] == ["expired"]


@slow
def test_a_rollback_during_a_rollback(plain, sitter, asked, tmp_path):
    training, _ = plain
    first = held_rollback(asked, tmp_path)
    second = asked("rollback")
    until(lambda: len([e for e in sitter.lines("logbook") if e["kind"] == "command"]) == 2, LONG, "the second was not sent")
    (tmp_path / "hold").unlink()
    said = answer(first), answer(second)
    assert first.returncode == 0, said
    goes_on(sitter, training, branch=1 + (second.returncode == 0))
    became = "applied" if second.returncode == 0 else "rejected"
    assert [e["status"] for e in outcomes(sitter, "rollback")] == ["applied", became]


def test_a_stop_during_a_rollback(plain, sitter, asked, tmp_path):
    training, _ = plain
    rollback = held_rollback(asked, tmp_path)
    stop = asked("stop")
    until(lambda: len([e for e in sitter.lines("logbook") if e["kind"] == "command"]) == 2, LONG, "the stop was not sent")
    (tmp_path / "hold").unlink()
    said = answer(rollback), answer(stop)
    assert (rollback.returncode, stop.returncode) == (0, 0), said
    assert training.wait(LONG) == 0
    status = sitter.until(lambda s: s["state"] == "stopped")
    assert status["branch"] == 1


@slow
def test_a_notice_of_pre_emption_during_a_rollback(plain, sitter, asked, tmp_path):
    training, _ = plain
    command = held_rollback(asked, tmp_path)
    training.send_signal(signal.SIGTERM)
    time.sleep(0.2)  # the handler runs inside the restore
    (tmp_path / "hold").unlink()
    answer(command)
    assert training.wait(LONG) == -signal.SIGTERM
    status = sitter.until(lambda s: s["state"] == "preempted")
    (saved,) = status["checkpoints"]
    assert saved["verified"]
    assert (status["branch"], saved["branch"]) == ((1, 1) if command.returncode == 0 else (0, 0))


# -- a pause ---------------------------------------------------------------------------------------------------------------


def paused(sitter) -> None:
    assert sitter("pause", "--hold").returncode == 0
    sitter.until(lambda s: s["state"] == "paused")


def test_a_stop_to_a_paused_run(plain, sitter):
    training, _ = plain
    paused(sitter)
    assert sitter("stop").returncode == 0
    assert training.wait(LONG) == 0
    sitter.until(lambda s: s["state"] == "stopped")


@slow
def test_a_rollback_of_a_paused_run(plain, sitter, asked):
    training, _ = plain
    paused(sitter)
    command = asked("rollback")
    said = answer(command)
    assert command.returncode == 0, said
    status = sitter.until(lambda s: s["branch"] == 1)
    assert status["state"] == "paused", "it was not asked to go on"
    assert sitter("unpause").returncode == 0
    goes_on(sitter, training)


@slow
def test_a_notice_of_pre_emption_to_a_paused_run(plain, sitter):
    training, _ = plain
    paused(sitter)
    training.send_signal(signal.SIGTERM)
    assert training.wait(LONG) == -signal.SIGTERM
    status = sitter.until(lambda s: s["state"] == "preempted")
    assert status["checkpoints"][-1]["verified"]


@slow
def test_the_daemon_dies_while_the_run_is_paused_and_the_next_one_ends_the_pause(plain, sitter):
    training, run = plain
    paused(sitter)
    kill(holder(run.daemon_lock))
    until(lambda: holder(run.daemon_lock) is None, LONG, "it was not killed")
    start_daemon(run)
    sitter.until(lambda s: s["state"] == "paused" and s["daemon"] and s["agent"]["last_seen_s"] is not None)
    assert sitter("unpause").returncode == 0
    goes_on(sitter, training)


# -- an order on its way -----------------------------------------------------------------------------------------------------


@slow
def test_the_daemon_is_stopped_while_an_order_is_out(plain, sitter, asked, tmp_path):
    training, run = plain
    command = held_rollback(asked, tmp_path)
    watcher = holder(run.daemon_lock)
    kill(watcher, signal.SIGSTOP)
    (tmp_path / "hold").unlink()
    time.sleep(3.0)  # longer than after which an order is sent again
    kill(watcher, signal.SIGCONT)
    said = answer(command)
    assert command.returncode == 0, said
    status = goes_on(sitter, training, branch=1)
    assert status["branch"] == 1, "once, though it was sent again"
    assert [e["status"] for e in outcomes(sitter, "rollback")] == ["applied"]


def test_checkpoints_asked_for_while_one_is_written(plain, sitter, asked):
    """They wait while the training stands, so that all come to it at once."""
    training, run = plain
    training.send_signal(signal.SIGSTOP)
    commands = [asked("checkpoint") for _ in range(4)]
    until(lambda: len([e for e in sitter.lines("logbook") if e["kind"] == "command"]) == len(commands), LONG, "not all were sent")
    training.send_signal(signal.SIGCONT)
    said = [answer(command) for command in commands]
    done = [Path(text.rpartition(": ")[2]) for command, text in zip(commands, said, strict=True) if command.returncode == 0]
    assert done, said
    assert all(path.parent == run.checkpoints for path in done), said
    assert all("are still being written: wait" in text for command, text in zip(commands, said, strict=True) if command.returncode), said
    steps = {int(path.stem.split("-")[0]): path for path in done}
    assert set(steps.values()) == set(done), "two of one step are told of one file"
    newest = [steps[step] for step in sorted(steps)[-2:]]  # of more than two steps the older ones give way, as is said of them
    assert all(path.is_file() for path in newest), (said, sorted(run.checkpoints.iterdir()))
    goes_on(sitter, training)
    # What has given way is removed behind the answer, and then said: until both are there.
    sitter.until(lambda s: all(c["verified"] and (run.path / c["path"]).is_file() for c in s["checkpoints"]), timeout=LONG)


# -- a restart -----------------------------------------------------------------------------------------------------------------


@slow
def test_the_disk_is_full_during_a_restart(tmp_path, script):
    place = tmp_path / "small"
    place.mkdir()
    if not mount_small(place):
        pytest.skip("a small file system cannot be mounted here (that takes root), so no disk can be filled")
    sitter = Shell(place)
    front = None
    try:
        front, run = supervised(place, script)
        assert sitter("checkpoint").returncode == 0
        filler = fill(place)
        first = pid_of(run)
        kill(first)
        time.sleep(2.0)  # the restart is asked about, planned, and tried, on a disk without a byte
        filler.unlink()
        until(lambda: front.poll() is not None or (pid_of(run) != first and sitter.json("status")["state"] == "running"), LONG, "it hangs")
        if front.poll() is None:
            status = goes_on(sitter)
            assert status["step"] > 100, "from its checkpoint, and not from the start"
            assert sitter("stop").returncode == 0
            assert front.wait(LONG) == 0
        else:
            status = sitter.json("status")
            assert status["state"] == "crashed"
            assert [e for e in sitter.lines("logbook") if "given up" in e["detail"] or "not started again" in e["detail"]]
    finally:
        if front is not None and front.poll() is None:
            sitter("stop", "--now")
            front.kill()
        if front is not None:
            front.wait()
        subprocess.run(["umount", "-l", place], check=True)


def test_the_training_is_killed_again_and_again_and_then_stopped(tmp_path, script, sitter):
    front, run = supervised(tmp_path, script)
    assert sitter("checkpoint").returncode == 0
    kill(pid_of(run))
    stop = sitter("stop")  # at once: while it is found out what to go on from, or while it waits, or as the next one begins
    assert stop.returncode == 0, stop.stderr
    front.wait(LONG)
    assert holder(run.agent_lock) is None
    assert sitter.until(lambda s: s["exit"], timeout=LONG)["state"] == "stopped"


@slow
def test_resume_while_the_daemon_lives(tmp_path, script, sitter):
    front, run = supervised(tmp_path, script, restart=0)
    assert sitter("checkpoint").returncode == 0
    watcher = holder(run.daemon_lock)
    kill(pid_of(run))
    front.wait(LONG)
    sitter.until(lambda s: s["state"] == "crashed")
    resumed = sitter("resume")
    assert resumed.returncode == 0, resumed.stderr
    status = goes_on(sitter)
    assert holder(run.daemon_lock) in (watcher, status["daemon"]["pid"])
    assert len(begins(run)) == 2
    assert float(begins(run)[1][1]) > 0, "from its checkpoint"
    assert "is alive" in sitter.refused("resume")
    assert sitter("stop").returncode == 0


@slow
def test_resume_all_twice_at_once(tmp_path, script, sitter, asked):
    front, run = supervised(tmp_path, script, restart=0)
    assert sitter("checkpoint").returncode == 0
    kill(pid_of(run))
    front.wait(LONG)
    sitter.until(lambda s: s["state"] == "crashed")
    both = [asked("resume", "--all") for _ in range(2)]
    said = [command.communicate(timeout=2 * LONG)[0] for command in both]
    assert any("goes on from" in text for text in said), said
    assert sum("goes on from" in text for text in said) == 1, said
    assert not any("Traceback" in text for text in said)
    assert [command.returncode for command in both] == [0, 0], said
    goes_on(sitter)
    assert len(begins(run)) == 2, "one training was started, and not two"
    assert read_boots(run).starts == 1, "and one was counted"
    assert sitter("stop").returncode == 0
