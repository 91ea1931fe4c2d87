"""One daemon ends, another takes over; or none does. What was asked for, found and allowed is not forgotten in between."""

import json
import os
import pty
import select
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from sitter.locks import holder, take
from sitter.store.reader import Reader
from sitter.supervise.daemon_process import start_daemon
from sitter_agent.launcher import is_held
from sitter_wire import rundir
from sitter_wire.places import RunDir

TRAINING = """
    import pathlib, sitter_agent, time
    rate, weight, bad = {"lr": 0.1}, {"w": 1.0}, pathlib.Path("bad")
    agent = sitter_agent.start(name="x", daemon=False, pause_gives_way_s=2.0)
    agent.knob("lr", get=lambda: rate["lr"], set=lambda v: rate.update(lr=v), low=1e-6, high=10.0, scale="log")
    agent.state(save=lambda: dict(weight), load=weight.update)
    for step in agent.steps(1_000_000):
        weight["w"] *= 0.9999
        if bad.exists():
            bad.unlink()
            weight["w"] = float("nan")
        agent.log(loss=2.0 + weight["w"])
        time.sleep(0.003)
"""


def until(what, timeout: float = 60.0):
    end = time.monotonic() + timeout
    while True:
        got = what()
        if got:
            return got
        assert time.monotonic() < end, "never so"
        time.sleep(0.02)


def begin(sitter, script, start, tmp_path) -> tuple:
    """(training, run, pid of its daemon)."""
    training = start(sys.executable, "-u", str(script(TRAINING)))
    training.stdout.readline()
    run = RunDir(tmp_path / "sitter-runs" / "x")
    start_daemon(run)
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 100 and "lr" in s["knobs"])
    return training, run, holder(run.daemon_lock)


def kill_daemon(run: RunDir, number: int) -> int:
    pid = holder(run.daemon_lock)
    assert pid is not None
    os.kill(pid, number)
    until(lambda: holder(run.daemon_lock) is None)
    return pid


def test_the_next_daemon_knows_what_the_last_one_knew(sitter, script, start, tmp_path):
    said = tmp_path / "said.txt"
    (tmp_path / "sitter.toml").write_text(
        f'[rules.guard]\nlimit = "3 per hour"\n[notify.file]\nkind = "command"\ncommand = "cat >> {said}; echo >> {said}"\n'
    )
    _, run, _ = begin(sitter, script, start, tmp_path)
    sitter.until(lambda s: s["step"] > 600)
    (tmp_path / "bad").touch()
    sitter.until(lambda s: s["branch"] == 1 and s["incidents"] == {"open": 0, "total": 1})  # an incident, healed; a budget, partly spent
    for words in (["set", "lr=0.5x"], ["checkpoint"], ["mode", "watch"], ["mode", "guard"], ["snooze", "gpu_hot", "1h"]):
        assert sitter(*words).returncode == 0
    before = sitter.until(lambda s: s["checkpoints"] and s["knobs"]["lr"]["scale"] == 0.5)
    rules = {r["name"]: r for r in sitter.lines("rules", "list")}
    assert rules["guard"]["left"] == 2

    # SIGKILL, as the kernel would when memory runs out.
    old = kill_daemon(run, signal.SIGKILL)
    start_daemon(run)
    after = sitter.until(lambda s: s["daemon"] and s["agent"]["last_seen_s"] is not None and s["step"] > before["step"])
    assert after["daemon"]["pid"] != old
    for same in ("run", "branch", "mode", "incidents", "total", "goal", "proposals"):
        assert after[same] == before[same], same
    assert after["knobs"]["lr"] == before["knobs"]["lr"]
    assert after["checkpoints"][0]["path"] == before["checkpoints"][0]["path"]
    again = {r["name"]: r for r in sitter.lines("rules", "list")}
    assert again["guard"]["left"] == 2
    assert again["gpu_hot"]["snoozed_until"] == rules["gpu_hot"]["snoozed_until"]

    # It says that the one before it was gone, to the logbook and to whoever wants to hear of it.
    told = [e for e in sitter.lines("logbook") if e["status"] == "daemon"]
    assert len(told) == 1
    assert f"(process {old}) was gone" in told[0]["detail"]
    assert "was gone" in until(lambda: said.exists() and "was gone" in said.read_text() and said.read_text())

    # SIGTERM is leaving in order: all is committed, and nobody is alarmed.
    seen = sitter.status()["step"]
    kill_daemon(run, signal.SIGTERM)
    reader = Reader(run.history)
    assert reader.tail(1)[0].step >= seen - 1
    reader.close()
    start_daemon(run)
    sitter.until(lambda s: s["daemon"] and s["step"] > seen)
    assert len([e for e in sitter.lines("logbook") if e["status"] == "daemon"]) == 1
    assert sitter("rollback").returncode == 0


def test_a_proposal_waits_through_a_change_of_daemons(sitter, script, start, tmp_path):
    (tmp_path / "sitter.toml").write_text('[rules.guard]\nmode = "ask"\n')
    _, run, _ = begin(sitter, script, start, tmp_path)
    sitter.until(lambda s: s["step"] > 600)
    (tmp_path / "bad").touch()
    (proposal,) = sitter.until(lambda s: s["proposals"])["proposals"]
    assert sitter.status()["verdict"] == "NEEDS YOU"
    assert sitter.status()["signals"]["loss"]["last"] == "nan"
    kill_daemon(run, signal.SIGKILL)
    start_daemon(run)
    after = sitter.until(lambda s: s["agent"]["last_seen_s"] is not None)
    assert [p["id"] for p in after["proposals"]] == [proposal["id"]]
    assert after["incidents"]["open"] == 1
    assert sitter("approve", proposal["id"]).returncode == 0
    healed = sitter.until(lambda s: s["branch"] == 1 and s["signals"]["loss"]["last"] != "nan" and not s["incidents"]["open"])
    assert healed["proposals"] == []


def test_a_pause_ends_when_its_daemon_has_died(sitter, script, start, tmp_path):
    _, run, _ = begin(sitter, script, start, tmp_path)
    assert sitter("pause").returncode == 0
    kill_daemon(run, signal.SIGKILL)
    waits = sitter.status()  # without a daemon, from the files
    reader = Reader(run.history)
    paused = next(iter(reader.events(["paused"]))).happening.step
    assert waits["step"] == paused or waits["state"] == "running"
    sitter.until(lambda s: s["step"] > paused + 20)
    held, went_on = (stored.happening.time / 1e9 for stored in reader.events(["paused"]))
    reader.close()
    assert went_on - held > 1.9, "it held for a while"
    start_daemon(run)
    sitter.until(lambda s: s["state"] == "running")
    (entry,) = [e for e in sitter.lines("logbook") if e["status"] == "goes on"]
    assert entry["detail"] == "no daemon was heard for 2 s while paused: the training goes on"


COUNTS = """
    import os, sitter_agent, sys, time
    agent = sitter_agent.start(name="x", daemon="--no-daemon" not in sys.argv)
    for step in agent.steps(1_000_000):
        agent.log(loss=float(step))
        os.write(1, b"%d\\n" % step)           # said once it is recorded
        time.sleep(0.001)
"""


def test_a_killed_training_is_read_to_the_end_with_a_daemon_and_without(sitter, script, start, tmp_path):
    path = str(script(COUNTS))
    for words in ([], ["--no-daemon"]):
        training = start(sys.executable, "-u", path, *words)
        last = 0
        for line in training.stdout:
            if line.strip().isdigit():
                last = int(line)
                if last >= 700:
                    break
        training.send_signal(signal.SIGKILL)
        rest = [int(row) for row in training.stdout.read().split()]
        last = rest[-1] if rest else last
        training.wait()
        status = sitter.until(lambda s: s["state"] == "crashed" and s["agent"] and s["agent"]["pid"] == training.pid)  # noqa: B023
        assert status["verdict"] == "DEAD"
        assert status["signals"]["loss"]["last"] in (last, last + 1), "the last value that was accepted is there"
        name = status["run"]
        assert sitter("days", "-r", name).returncode == 0  # which waits until all is committed
        reader = Reader(RunDir(tmp_path / "sitter-runs" / name).history)
        losses = [p.values["loss"] for p in reader.tail(10_000_000) if "loss" in p.values]
        reader.close()
        assert losses in ([float(s) for s in range(last + 1)], [float(s) for s in range(last + 2)])


READS = """
    import pathlib, sys, time
    from sitter.locks import take
    while True:                       # what a command does that reads the files of a run, again and again
        lock = take(pathlib.Path(sys.argv[1]), reads=True)
        time.sleep(0.03)
        if lock is not None:
            lock.close()
        time.sleep(0.005)
"""


def test_who_only_reads_does_not_keep_a_daemon_from_starting(sitter, script, start, tmp_path):
    training = start(sys.executable, "-u", str(script(TRAINING)))  # with daemon=False
    training.stdout.readline()
    run = RunDir(tmp_path / "sitter-runs" / "x")
    start(sys.executable, str(script(READS, "reads.py")), str(run.daemon_lock))
    until(lambda: is_held(run.daemon_lock, by_readers=True))
    for _ in range(3):
        start_daemon(run)
        pid = holder(run.daemon_lock)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: holder(run.daemon_lock) is None)
    assert sitter.status()["daemon"] is None, "nor is it taken for one"


def test_a_training_that_starts_while_a_command_reads_its_run_is_watched(sitter, script, start, tmp_path):
    run = rundir.create(tmp_path / "sitter-runs", "x", command=["x"], supervised=False, sockets="", version="0")
    with take(run.daemon_lock, reads=True):
        training = start(sys.executable, "-u", str(script(TRAINING.replace("daemon=False, ", ""))), SITTER_RUN=str(run.path))
        until(lambda: run.daemon_log.exists() or select.select([training.stdout], [], [], 0)[0])  # a daemon is started, or is not
    assert "guard on" in training.stdout.readline()
    watcher = holder(run.daemon_lock)
    assert watcher is not None
    assert sitter.until(lambda s: s["state"] == "running")["daemon"]["pid"] == watcher


@pytest.mark.slow
def test_a_command_that_keeps_a_run_delays_its_daemon_and_no_more(sitter, script, start, tmp_path):
    run = rundir.create(tmp_path / "sitter-runs", "x", command=["x"], supervised=False, sockets="", version="0")
    with take(run.daemon_lock, reads=True):  # its output waits for a pager, say
        training = start(sys.executable, "-u", str(script(TRAINING.replace("daemon=False, ", ""))), SITTER_RUN=str(run.path))
        assert "nobody is watching: the daemon did not start" in (line := training.stdout.readline())
        assert "a command that reads" in line
    assert any("the daemon was gone and is started again" in line for line in training.stdout)
    assert sitter.until(lambda s: s["state"] == "running")["daemon"] is not None


def test_the_run_outlives_the_terminal_it_was_started_from(sitter, script, tmp_path):
    path = script(TRAINING.replace("daemon=False, ", ""))
    pid, terminal = pty.fork()
    if pid == 0:  # in the terminal: the screen opens
        os.chdir(tmp_path)
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "sitter.cli.main", "run", "--name", "x", "--", sys.executable, str(path)])
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(terminal, 65536):
                shown.append(data)
        except OSError:
            return

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    before = sitter.until(lambda s: s["state"] == "running" and s["step"] > 50 and s["daemon"])
    until(lambda: b"loss" in b"".join(shown))  # the screen is there
    os.killpg(os.getpgid(pid), signal.SIGHUP)  # what the kernel sends when the window is closed
    os.close(terminal)
    end = time.monotonic() + 60
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert time.monotonic() < end, "the screen did not leave with its terminal"
        time.sleep(0.05)
    after = sitter.until(lambda s: s["step"] > before["step"] + 200)
    assert after["state"] == "running"
    assert after["daemon"]["pid"] == before["daemon"]["pid"]
    assert after["agent"]["pid"] == before["agent"]["pid"]
    assert sitter("stop").returncode == 0
    # What the training said as it left is known a moment before its parent has written down how it ended.
    assert sitter.until(lambda s: s["state"] == "stopped" and s["exit"])["exit"]["code"] == 0
    assert json.loads((Path(before["directory"]) / "exit.json").read_text())["code"] == 0
