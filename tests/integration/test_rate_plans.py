"""A warm-up that a rule began is carried to its end, whoever is killed in the midst of it."""

import os
import signal
import sys
import time

import pytest

from sitter.locks import holder
from sitter_wire.places import RunDir

TRAINING = """
    import os, signal, sitter_agent, time, torch
    torch.set_num_threads(1)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    agent = sitter_agent.start(model=model, optimizer=optimizer, name="x")
    for step in agent.steps(100_000):
        optimizer.zero_grad()
        loss = (model(torch.randn(4, 2)) ** 2).mean()
        loss.backward()
        optimizer.step()
        agent.log(loss=2.0 + 1e-3 * (step % 7))
        if os.path.exists("die-at") and step == int(open("die-at").read()):
            os.rename("die-at", "died")
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.008)
"""

RULES = """
[checkpoints]
healthy_steps = 20
[rules.cut]
at = 200
do = "lr=0.5x"
mode = "act"
warmup = "600 steps"
[rules.keep]
at = 450
do = "checkpoint"
mode = "act"
"""

pytestmark = pytest.mark.slow  # the quick form: tests/unit/sitter/control/test_rate_plans.py


def warming(status):
    return status["knobs"].get("lr", {}).get("scale", 1.0) < 0.4


def warm(status):
    return abs(status["knobs"].get("lr", {}).get("scale", 1.0) - 0.5) < 1e-6 and (status["step"] or 0) > 700


def watched_again(run, killed):
    """Not by asking: whoever asks a run without a daemon has its lock meanwhile, and the next daemon waits for it."""
    end = time.monotonic() + 100
    while holder(run.daemon_lock) in (None, killed) and time.monotonic() < end:
        time.sleep(0.1)


def test_the_daemon_is_killed_and_the_next_one_carries_it_to_its_end(sitter, script, start, tmp_path):
    (tmp_path / "sitter.toml").write_text(RULES)
    start(sys.executable, "-u", str(script(TRAINING)))
    daemon = sitter.until(warming)["daemon"]["pid"]
    os.kill(daemon, signal.SIGKILL)
    watched_again(RunDir(tmp_path / "sitter-runs" / "x"), daemon)
    status = sitter.until(warm)
    assert status["daemon"]["pid"] != daemon
    lines = sitter.lines("logbook")
    assert not [line for line in lines if line["status"] == "ended"]
    assert len([line for line in lines if line["status"] == "applied" and line["rule"] == "cut"]) == 12


def test_the_training_is_killed_and_the_next_one_carries_it_to_its_end(sitter, script, start, tmp_path):
    (tmp_path / "sitter.toml").write_text(RULES)
    (tmp_path / "die-at").write_text("560")
    words = (sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--restart", "1", "--", sys.executable, "-u", str(script(TRAINING)))
    start(*words)
    sitter.until(lambda s: (tmp_path / "died").exists())
    sitter.until(warm)
    lines = sitter.lines("logbook")
    (said,) = [line["detail"] for line in lines if line["status"] == "goes on" and line["rule"] == "cut"]
    assert "the warm-up goes on from there" in said
    assert not [line for line in lines if line["status"] == "ended"]
    assert sitter("stop").returncode == 0
