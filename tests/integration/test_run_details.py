"""``sitter run`` to the letter: names, modes, --then, Ctrl-C, output, exit codes; and ``sitter resume`` after a crash."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from sitter_wire.places import RunDir

TRAINING = """
    import sitter_agent, sys, time
    rate, weight = {"lr": 0.1}, {"w": 1.0, "steps": 0}
    agent = sitter_agent.start()
    agent.knob("lr", get=lambda: rate["lr"], set=lambda v: rate.update(lr=v), low=1e-6, high=10.0, scale="log")
    agent.state(save=lambda: dict(weight), load=weight.update)
    for step in agent.steps(int(sys.argv[1])):
        weight["w"] *= 0.999
        weight["steps"] += 1
        agent.log(loss=weight["w"])
        time.sleep(0.002)
    print("left the loop", step, weight["steps"])
"""


def followed(*command: str) -> list[str]:
    """``sitter run --no-ui`` of a training named x."""
    return [sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", "x", "--", sys.executable, *command]


def wait_for(path: Path, timeout: float = 100.0) -> str:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if path.exists() and path.read_text().strip():
            return path.read_text().strip()
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")


def test_a_name_that_is_taken_gets_a_number_and_a_bad_one_is_refused(sitter, script, tmp_path):
    path = str(script("print('hello')\n"))
    for name in ("x", "x-2", "x-3"):
        assert sitter("run", "--no-ui", "--name", "x", "--", sys.executable, path).returncode == 0
        assert (tmp_path / "sitter-runs" / name / "train.log").read_text() == "hello\n"
    assert sorted(r["run"] for r in sitter.json("ls")) == ["x", "x-2", "x-3"]
    for bad in ("a/b", "..", "-x", "naïve", "x" * 65):
        assert "run name" in sitter.refused("run", "--no-ui", f"--name={bad}", "--", sys.executable, path, code=1)
    assert len(sitter.json("ls")) == 3


def test_mode_and_then_and_the_words_behind_the_command(sitter, script, tmp_path):
    path = str(script(TRAINING))
    then = f"env > {tmp_path}/env.txt; mv {tmp_path}/env.txt {tmp_path}/then.txt"  # there with all that stands in it
    # Without `--` too: what follows the command is the training's own.
    done = sitter("run", "--no-ui", "--name", "x", "--mode", "watch", "--then", then, sys.executable, path, "60")
    assert done.returncode == 0, done.stderr
    assert "left the loop 59 60" in done.stdout
    assert "watching only" in done.stdout, "the line that the agent prints says the mode"
    status = sitter.until(lambda s: s["state"] == "finished")
    assert status["mode"] == "watch"
    assert status["exit"]["code"] == 0
    environment = dict(row.partition("=")[::2] for row in wait_for(tmp_path / "then.txt").splitlines())
    run = tmp_path / "sitter-runs" / "x"
    assert environment["SITTER_RUN_DIR"] == str(run)
    assert environment["SITTER_STATE"] == "finished"
    assert "SITTER_RUN" not in environment, "a training that it starts would record into this run"
    book = sitter.lines("logbook")
    assert ("command", "then", "started") in [(e["kind"], e["action"], e["status"]) for e in book]


def test_ctrl_c_asks_for_checkpoint_and_stop(sitter, script, start, tmp_path):
    front = start(*followed(str(script(TRAINING)), "100000"))
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 20)
    front.send_signal(signal.SIGINT)
    out = front.communicate(timeout=100)[0]
    assert front.returncode == 0, out
    assert "asking for checkpoint and stop" in out
    assert "left the loop" in out
    status = sitter.until(lambda s: s["state"] == "stopped")
    assert status["checkpoints"][-1]["verified"]
    assert status["checkpoints"][-1]["step"] == status["step"]


def test_a_second_ctrl_c_leaves_it_running(sitter, script, start):
    # A loop without safe points: the stop is asked for, and cannot be obeyed.
    stuck = TRAINING.replace("time.sleep(0.002)", "time.sleep(0.002 if step < 30 else 600)")
    front = start(*followed(str(script(stuck)), "1000"))
    pid = sitter.until(lambda s: s["state"] == "running" and s["step"] >= 30)["agent"]["pid"]
    front.send_signal(signal.SIGINT)
    seen = ""
    while "Ctrl-C again" not in seen:
        seen = front.stdout.readline()
        assert seen, "it ended"
    front.send_signal(signal.SIGINT)
    out = front.communicate(timeout=100)[0]
    assert front.returncode == 130, out
    assert "goes on" in out
    os.kill(pid, 0)
    assert sitter.status()["state"] == "running"


CRASHES = """
    import pathlib, sitter_agent, time
    weight, mark = {"w": 1.0, "steps": 0}, pathlib.Path("crashed")
    agent = sitter_agent.start()
    agent.state(save=lambda: dict(weight), load=weight.update)
    told, saved = False, pathlib.Path("saved")
    for step in agent.steps(1200):
        if mark.exists() and not told:
            told = True
            print("begins", step, repr(weight["w"]), weight["steps"])
        if step == 900 and not mark.exists():
            mark.touch()
            raise RuntimeError("out of luck")
        weight["w"] *= 0.999
        weight["steps"] += 1
        agent.log(loss=weight["w"])
        # It waits for its checkpoint without standing still, which would be no safe point.
        time.sleep(0.003 if step < 800 or saved.exists() else 3.0)
    print("ends", step, repr(weight["w"]), weight["steps"])
"""


def test_resume_after_a_crash_goes_on_from_the_checkpoint(sitter, script, start, tmp_path):
    front = start(*followed(str(script(CRASHES))))
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 100)
    assert "is alive" in sitter.refused("resume")
    assert sitter("checkpoint").returncode == 0
    saved = sitter.until(lambda s: s["checkpoints"])["checkpoints"][0]["step"]
    tmp_path.joinpath("saved").touch()
    out = front.communicate(timeout=100)[0]
    assert front.returncode == 1
    assert "RuntimeError: out of luck" in out, "what a crashing script says is in its log, and shown"
    log = (tmp_path / "sitter-runs" / "x" / "train.log").read_text()
    assert "Traceback (most recent call last)" in log
    status = sitter.until(lambda s: s["state"] == "crashed")
    assert status["verdict"] == "DEAD"
    assert status["step"] == 900

    resumed = sitter("resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"goes on from step {saved}" in resumed.stdout
    sitter.until(lambda s: s["state"] == "finished")
    said = RunDir(tmp_path / "sitter-runs" / "x").train_log.read_text()
    begins = next(row for row in said.splitlines() if row.startswith("begins"))
    weight = 1.0
    for _ in range(saved):
        weight *= 0.999
    assert begins.split() == ["begins", str(saved), repr(weight), str(saved)]
    for _ in range(saved, 1200):
        weight *= 0.999
    assert f"ends 1199 {weight!r} 1200" in said
    status = sitter.status()
    assert (status["step"], status["branch"]) == (1200, 1)
    assert any(e["kind"] == "restart" for e in sitter.lines("logbook"))
    steps = [int(row.split(",")[0]) for row in sitter("export", "--format", "csv").stdout.splitlines()[1:]]
    assert sorted(set(steps)) == steps == list(range(len(steps))), "each step once, on the line that led here"
    assert "has finished" in sitter.refused("resume")


def test_a_run_without_a_checkpoint_is_not_resumed(sitter, script):
    sitter("run", "--no-ui", "--name", "x", "--", sys.executable, str(script("raise SystemExit(3)")))
    said = sitter.refused("resume")
    assert "no verified checkpoint" in said
    assert "sitter run -- " in said


def test_a_notice_from_outside_is_a_preemption_and_stop_now_is_a_stop(sitter, script, start):
    path = str(script(TRAINING))
    for end, state in (("SIGTERM", "preempted"), ("stop --now", "stopped")):
        front = start(*followed(path, "100000"))
        status = sitter.until(lambda s: s["state"] == "running" and s["step"] > 400)  # past its start
        if end == "SIGTERM":
            os.kill(status["agent"]["pid"], signal.SIGTERM)
        else:
            assert sitter("stop", "--now").returncode == 0
        front.communicate(timeout=100)
        assert front.returncode == 128 + signal.SIGTERM
        status = sitter.until(lambda s: s["state"] not in ("running", "starting"))
        assert status["state"] == state
        if end == "SIGTERM":
            assert status["checkpoints"][-1]["verified"], "it was used to save what is there"
            assert any(e["status"] == "preempted" for e in sitter.lines("logbook"))
        # The same to whoever looks without a daemon.
        if status["daemon"] is not None:  # it leaves by itself once nobody looks
            with contextlib.suppress(ProcessLookupError):
                os.kill(status["daemon"]["pid"], signal.SIGTERM)
        assert sitter.until(lambda s: s["daemon"] is None)["state"] == state
