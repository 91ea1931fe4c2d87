"""``sitter run --restart``: a training that dies goes on by itself, whoever else has died; and a stop is a stop."""

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from sitter.locks import take
from sitter.model import RestartNow
from sitter.paths import look
from sitter.supervise import boots
from sitter.supervise.boots import read_boots
from sitter.supervise.exit import read_exit
from sitter.supervise.pending import parent_pid
from sitter.supervise.process import TrainingProcess
from sitter_wire import rundir
from sitter_wire.places import RunDir
from tests.integration.conftest import past_its_launch

TRAINING = """
    import pathlib, sitter_agent, sys, time
    weight, fault, hold, began = {"w": 1.0}, pathlib.Path("fault"), pathlib.Path("hold"), pathlib.Path("began")
    agent = sitter_agent.start()
    agent.state(save=lambda: dict(weight), load=weight.update)
    print("begins", agent.step, repr(weight["w"]), flush=True)
    first = agent.step == 0 and not began.exists()
    began.touch()
    for step in agent.steps(int(sys.argv[1])):
        weight["w"] += 1.0
        agent.log(loss=2.0, w=weight["w"])
        # The first is to be ended, and on a busy machine that may take long; but it must not stand still.
        time.sleep(0.0 if not first else 0.1 if step > 1000 else 0.002)
        if fault.exists() and step > 20:
            say = fault.read_text()
            fault.unlink()
            raise RuntimeError(say)
        while hold.exists() and not first:
            time.sleep(0.01)
    print("ends", agent.step, repr(weight["w"]), flush=True)
"""
LONG = 100.0
"""Seconds for what another process does, where nothing else is waited for."""
SETTINGS = "[restart]\npause = 0.3\n[checkpoints]\nhealthy_steps = 40\n"


def begin(sitter, script, start, total: int = 100_000, restart: int = 5, settings: str = SETTINGS, **env: str):
    sitter.cwd.joinpath("sitter.toml").write_text(settings)
    path = str(script(TRAINING))
    front = start(
        sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", "x", "--restart", str(restart), "--", sys.executable, path,
        str(total), **env,
    )  # fmt: skip
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 100)
    run = RunDir(sitter.cwd / "sitter-runs" / "x")
    past_its_launch(run)
    return front, run


def pid_of(run: RunDir) -> int:
    return int(json.loads((run.path / "train.pid").read_text())["pid"])


def begins(run: RunDir) -> list[list[str]]:
    return [row.split()[1:] for row in run.train_log.read_text().splitlines() if row.startswith("begins")]


def save(sitter, *, good: bool = False) -> int:
    assert sitter("checkpoint").returncode == 0
    return sitter.until(lambda s: any(c["good"] or not good for c in s["checkpoints"]))["checkpoints"][-1]["step"]


def test_a_killed_training_goes_on_from_its_good_checkpoint_and_ends_well(sitter, script, start):
    front, run = begin(sitter, script, start, 3000)
    saved = save(sitter, good=True)
    os.kill(pid_of(run), signal.SIGKILL)
    out = front.communicate(timeout=LONG)[0]
    assert front.returncode == 0, out
    assert begins(run) == [["0", "1.0"], [str(saved), repr(1.0 + saved)]]
    assert "ends 3000 3001.0" in run.train_log.read_text()
    status = sitter.status()
    assert (status["state"], status["step"], status["branch"]) == ("finished", 3000, 1)
    assert (status["exit"]["code"], status["exit"]["attempts"]) == (0, 2)
    log = sitter.lines("logbook")
    (crash,) = [e for e in log if e["status"] == "crashed"]
    assert "ended by SIGKILL" in crash["detail"]
    (restarting,) = [e for e in log if e["status"] == "restarting"]
    assert restarting["kind"] == "restart"
    assert f"restarting in 0:00 (1 of 5), from step {saved:,} (good)" in restarting["detail"]
    assert [e["branch"] for e in log if e["kind"] == "restart" and e["status"] == "started"] == [1]


def test_it_goes_on_also_when_the_daemon_died_with_it(sitter, script, start):
    front, run = begin(sitter, script, start, 3000)
    saved = save(sitter)
    watcher = look(run).daemon_pid
    assert watcher is not None
    os.kill(watcher, signal.SIGKILL)
    os.kill(pid_of(run), signal.SIGKILL)
    front.communicate(timeout=LONG)
    assert front.returncode == 0
    assert begins(run)[1] == [str(saved), repr(1.0 + saved)]
    sitter.until(lambda s: s["state"] == "finished")
    crashes = [e for e in sitter.lines("logbook") if e["status"] == "crashed"]
    assert len(crashes) == 1, "the daemon that the second attempt started tells of the first one's end"


@pytest.mark.slow
def test_a_frozen_daemon_does_not_hold_up_the_restart(sitter, script, start):
    front, run = begin(sitter, script, start, 3000)
    saved = save(sitter)
    watcher = look(run).daemon_pid
    assert watcher is not None
    os.kill(watcher, signal.SIGSTOP)
    try:
        os.kill(pid_of(run), signal.SIGKILL)
        front.communicate(timeout=LONG)
    finally:
        os.kill(watcher, signal.SIGCONT)
    assert begins(run)[1] == [str(saved), repr(1.0 + saved)]
    assert read_exit(run).code == 0


def test_what_it_said_is_in_the_logbook_and_the_notice(sitter, script, start):
    front, _ = begin(sitter, script, start, 3000)
    said = Path(sitter.cwd, "said")
    said.write_text("\x1b[31mCUDA out of memory. Tried to allocate 2.00 GiB\x1b[0m")
    said.rename(sitter.cwd / "fault")  # there with all that stands in it
    front.communicate(timeout=LONG)
    log = sitter.lines("logbook")
    (crash,) = [e for e in log if e["status"] == "crashed"]
    assert "exit code 1: the GPU's memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB)" in crash["detail"]
    (words,) = [e for e in log if e["status"] == "last words"]
    assert words["detail"].endswith("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("words", [["stop"], ["stop", "--now"]], ids=" ".join)
def test_a_stop_is_not_started_again(sitter, script, start, words):
    front, run = begin(sitter, script, start)
    assert sitter(*words).returncode == 0
    front.communicate(timeout=LONG)
    assert len(begins(run)) == 1
    sitter.until(lambda s: s["state"] == "stopped")


def test_the_wait_is_shown_and_a_stop_calls_it_off(sitter, script, start):
    front, run = begin(sitter, script, start, settings="[restart]\npause = '20m'\npause_most = '20m'\n")
    os.kill(pid_of(run), signal.SIGKILL)
    status = sitter.until(lambda s: s["restart"] is not None and s["restart"]["at"] is not None)
    assert (status["state"], status["verdict"]) == ("starting", "HEALING")
    assert re.search(r"restarting in (20:00|19:\d\d) \(1 of 5\), from the start", sitter("status").stdout)
    assert "about to be started again by itself" in sitter.refused("resume")
    stopped = sitter("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert "called off" in stopped.stdout
    front.communicate(timeout=LONG)
    assert front.returncode == 128 + signal.SIGKILL
    assert sitter.until(lambda s: s["exit"])["state"] == "stopped"


def test_three_deaths_without_a_step_further_give_up_and_then_then_runs(sitter, script, start, tmp_path):
    sitter.cwd.joinpath("sitter.toml").write_text(SETTINGS)
    path = str(script("import sitter_agent\nagent = sitter_agent.start()\nimport time; time.sleep(0.6)\nraise SystemExit('bad batch')"))
    done = sitter(
        "run", "--no-ui", "--name", "x", "--restart", "50", "--then", f"echo over >> {tmp_path}/over", "--", sys.executable, path
    )
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("sitter: x: exit code 1; ")]
    assert ["restarting in" in line for line in said] == [True, True, False], done.stderr
    assert said[2].endswith("given up: 3 attempts in a row did not get to a first step")
    status = sitter.until(lambda s: s["state"] == "crashed" and (tmp_path / "over").exists())
    assert status["exit"]["attempts"] == 3
    assert "did not get to a first step" in status["exit"]["given_up"]
    time.sleep(0.2)
    assert (tmp_path / "over").read_text() == "over\n", "once, at the very end"
    assert sum(e["status"] == "crashed" for e in sitter.lines("logbook")) == 3


def test_a_restart_is_told_in_words():
    assert RestartNow(number=2, of=5, at=1020.0).in_words(1000.0) == "restarting in 0:20 (2 of 5)"
    assert RestartNow(number=2, of=5).in_words(1000.0) == "restarting (2 of 5)"


# -- resume ------------------------------------------------------------------------------------------------------------------


def killed(sitter, script, start, name: str = "x"):
    """A run whose every process was killed at once, as by a power cut; its checkpoint's step."""
    with sitter.cwd.joinpath("sitter.toml").open("a") as settings:
        settings.write("[checkpoints]\nhealthy_steps = 1_000_000\n")  # none is called good, however long it lives on
    path = str(script(TRAINING))
    front = start(sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", name, "--", sys.executable, path, "3000")
    sitter.until(lambda s: s["run"] == name and s["state"] == "running" and s["step"] > 100)
    assert sitter("checkpoint", "-r", name).returncode == 0
    saved = sitter.until(lambda s: s["checkpoints"], "-r", name)["checkpoints"][-1]["step"]
    run = RunDir(sitter.cwd / "sitter-runs" / name)
    pids = (pid_of(run), parent_pid(run), look(run).daemon_pid, front.pid)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # none lives to see another one's end
        for pid in pids:
            assert pid is not None
            os.kill(pid, number)
    front.communicate(timeout=LONG)
    while parent_pid(run) is not None or look(run).daemon_pid is not None or TrainingProcess.find(run).alive():
        time.sleep(0.01)
    assert not run.exit_json.exists()
    return run, saved


def lose_the_end(run: RunDir) -> None:
    """As a parent that begins does, once another start was counted: who waited for the last one to leave waits for it no more."""
    while read_boots(run).starts == 1:
        time.sleep(0.005)
    run.exit_json.unlink()


def test_what_another_command_is_just_resuming_is_no_failure(sitter, script, tmp_path):
    assert sitter("run", "--no-ui", "--name", "x", "--", sys.executable, str(script("import time; time.sleep(1); 1 / 0"))).returncode == 1
    run = RunDir(tmp_path / "sitter-runs" / "x")
    boots.write(run, boots.Boots(starts=1))
    # As the other does from before it counts, and its parent before there is a training to be seen.
    for path in (run.resume_lock, run.parent_lock):
        lock = take(path)
        assert lock is not None
        begins_anew = threading.Thread(target=lose_the_end, args=(run,), daemon=True)
        with lock:
            if path == run.parent_lock:
                begins_anew.start()
            out = sitter("resume", "--all")
            assert (out.returncode, out.stderr) == (0, "")
            assert out.stdout.startswith("x is being resumed already")
            if path == run.resume_lock:
                assert "x is being resumed already" in sitter.refused("resume")
        assert read_boots(run).starts == 1


def test_resume_all_goes_on_with_what_was_killed_and_with_nothing_else_twice(sitter, script, start, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run, saved = killed(sitter, script, start)
    done = sitter("run", "--no-ui", "--name", "done", "--", sys.executable, str(script("import sitter_agent", "done.py")))
    assert done.returncode == 0
    tmp_path.joinpath("hold").touch()
    out = sitter("resume", "--all")
    assert out.returncode == 0, out.stderr
    assert out.stdout.splitlines() == [
        f"x goes on from step {saved:,} (verified, not yet called good); `sitter attach -r x` shows it"
    ]
    again = sitter("resume", "--all")
    assert again.returncode == 0
    assert "x is alive" in again.stdout
    assert len(again.stdout.splitlines()) == 1
    tmp_path.joinpath("hold").unlink()
    sitter.until(lambda s: s["state"] == "finished", "-r", "x")
    assert begins(run) == [["0", "1.0"], [str(saved), repr(1.0 + saved)]]
    assert sitter("resume", "--all").stdout == "nothing to resume: no run that `sitter run` started has crashed or was pre-empted\n"


def test_a_run_that_was_copied_goes_on_where_it_lies_now(sitter, script, start, tmp_path):
    first, saved = killed(sitter, script, start)
    there = tmp_path / "other host"
    shutil.copytree(first.path.parent.parent / "sitter-runs", there / "sitter-runs")
    shutil.move(tmp_path / "train.py", there / "train.py")
    copy = RunDir(there / "sitter-runs" / "x")
    out = sitter("resume", "-r", str(copy.path))
    assert out.returncode == 0, out.stderr
    assert f"from step {saved:,}" in out.stdout
    assert f" in {there}" in out.stdout
    sitter.until(lambda s: s["state"] == "finished", "-r", str(copy.path))
    assert begins(copy)[1] == [str(saved), repr(1.0 + saved)]
    assert rundir.read(copy).sockets != rundir.read(first).sockets
    assert len(begins(first)) == 1


def test_a_run_whose_script_did_not_come_along_is_refused_with_a_reason(sitter, script, start, tmp_path):
    first, _ = killed(sitter, script, start)
    there = tmp_path / "other"
    shutil.copytree(first.path, there / "x")
    (tmp_path / "train.py").unlink()
    said = sitter.refused("resume", "-r", str(there / "x"))
    assert "train.py was not found here" in said
    assert "as cwd into" in said


def out_of_power(run: RunDir) -> None:
    """Every process of the run at once, and nobody left to write down how it ended."""
    process = TrainingProcess.find(run)
    pids = (process.pid if process and process.alive() else None, parent_pid(run), look(run).daemon_pid)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # none lives to see another one's end
        for pid in filter(None, pids):
            os.kill(pid, number)
    while parent_pid(run) is not None or look(run).daemon_pid is not None or TrainingProcess.find(run).alive():
        time.sleep(0.01)


def left_alone(sitter, run: RunDir, told: Path) -> None:
    """At this boot it is not started; that is said here, in the logbook and to whoever is to be told, and each there once."""
    before = len(begins(run))
    for _ in range(2):
        out = sitter("resume", "--all")
        assert out.returncode == 1, out.stdout
        (line,) = out.stdout.splitlines()
        assert "x is left alone: 3 starts in a row by `sitter resume --all` did not get past step" in line
        assert "`sitter resume -r x` starts it all the same" in line
    end = time.monotonic() + LONG
    while not told.exists() or "left alone" not in told.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(begins(run)) == before
    assert sum(e["status"] == "left alone" for e in sitter.lines("logbook")) == 1


def test_what_is_left_alone_at_boot_starts_by_hand(sitter, script, start, tmp_path):
    (tmp_path / "sitter.toml").write_text(f'[notify.file]\nkind = "command"\ncommand = "cat >> {tmp_path}/told"\n')
    run, _ = killed(sitter, script, start)
    assert boots.counted(run, 100_000, []).starts == 0
    boots.write(run, boots.Boots(starts=3, furthest=100_000))
    left_alone(sitter, run, tmp_path / "told")
    assert sitter("resume").returncode == 0
    sitter.until(lambda s: s["state"] == "finished")
    assert not (run.path / boots.BOOTS).exists()


@pytest.mark.slow
def test_a_training_that_takes_its_machine_down_is_not_started_at_every_boot(sitter, script, start, tmp_path):
    (tmp_path / "sitter.toml").write_text(f'[notify.file]\nkind = "command"\ncommand = "cat >> {tmp_path}/told"\n')
    run, _ = killed(sitter, script, start)
    path = script("import pathlib, sitter_agent, time\nagent = sitter_agent.start()\nprint('begins', 0, flush=True)\ntime.sleep(600)")
    assert path.name == "train.py"
    for n in range(1, 4):
        assert "goes on from" in sitter("resume", "--all").stdout, f"boot {n}"
        sitter.until(lambda s, n=n: len(begins(run)) > n)
        out_of_power(run)
    left_alone(sitter, run, tmp_path / "told")
    resumed = sitter("resume")
    assert resumed.returncode == 0, resumed.stderr
    assert sitter("stop", "--now").returncode == 0


@pytest.mark.slow
def test_what_was_given_up_is_tried_again_at_a_boot_and_the_third_in_vain_is_the_last(sitter, script):
    sitter.cwd.joinpath("sitter.toml").write_text("[restart]\npause = 0.1\npause_most = 0.1\n")
    path = script("import sitter_agent, time\nagent = sitter_agent.start()\ntime.sleep(0.6)\nprint('begins', 0, flush=True)\n1 / 0")
    assert sitter("run", "--no-ui", "--name", "x", "--restart", "9", "--", sys.executable, str(path)).returncode == 1
    run = RunDir(sitter.cwd / "sitter-runs" / "x")
    for boot in range(1, 4):
        assert "given up: 3 attempts in a row" in sitter.until(lambda s: s["exit"] and s["state"] == "crashed")["exit"]["given_up"]
        assert len(begins(run)) == 3 * boot
        assert "x goes on from the start" in sitter("resume", "--all").stdout
    sitter.until(lambda s: s["exit"] and s["state"] == "crashed")
    assert "x is left alone: 3 starts in a row by `sitter resume --all` did not get to a first step" in sitter("resume", "--all").stdout


# -- [checkpoints] after -----------------------------------------------------------------------------------------------------


def test_every_checkpoint_is_copied_and_what_hangs_holds_up_nothing(sitter, script, start, tmp_path):
    settings = f'[checkpoints]\nafter = "cp {{path}} {tmp_path}/kept-{{step}} && echo copied"\n'
    begin(sitter, script, start, settings=settings)
    saved = save(sitter)
    sitter.until(lambda s: (tmp_path / f"kept-{saved}").exists())
    end = time.monotonic() + LONG
    while not (found := [e for e in sitter.lines("logbook") if e["kind"] == "outcome" and str(e["action"]).startswith("after: cp")]):
        assert time.monotonic() < end
    assert (found[0]["status"], found[0]["step"]) == ("applied", saved)
    assert found[0]["detail"].endswith(": copied")
    assert sitter("stop", "--now").returncode == 0


@pytest.mark.slow
def test_a_hanging_copy_is_ended_and_told(sitter, script, start):
    settings = '[checkpoints]\nafter = "echo connecting; sleep 600"\nafter_timeout = "1s"\n'
    begin(sitter, script, start, settings=settings)
    before = save(sitter)
    end = time.monotonic() + LONG
    while not (found := [e for e in sitter.lines("logbook") if e["kind"] == "outcome" and str(e["action"]).startswith("after:")]):
        assert time.monotonic() < end
    assert found[0]["status"] == "failed"
    assert "as long as it may take" in found[0]["detail"]
    assert sitter.status()["step"] > before
    assert sitter("stop", "--now").returncode == 0
