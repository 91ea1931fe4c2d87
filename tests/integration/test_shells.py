"""What a person types unquoted in zsh, bash and fish arrives as it was meant, and is done by a real run."""

import json
import os
import shutil
import subprocess
import sys

import pytest

SHELLS = {"bash": ["--norc", "--noprofile", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}

LINES = {
    "sitter set lr=0.5x": ["set", "lr=0.5x"],
    "sitter set lr=3e-4 --hold": ["set", "lr=3e-4", "--hold"],
    "sitter set weight_decay=0.1 lr@head=0.3x": ["set", "weight_decay=0.1", "lr@head=0.3x"],
    "sitter rollback --to 12,340": ["rollback", "--to", "12,340"],
    "sitter rollback --to=12.5k --replay": ["rollback", "--to=12.5k", "--replay"],
    "sitter snooze gpu_hot 1h": ["snooze", "gpu_hot", "1h"],
    "sitter mode watch": ["mode", "watch"],
    "sitter note the rate was too high, I think": ["note", "the", "rate", "was", "too", "high,", "I", "think"],
    "sitter run --name x --then true -- python train.py --lr=3e-4": [
        "run", "--name", "x", "--then", "true", "--", "python", "train.py", "--lr=3e-4"
    ],
}  # fmt: skip

TRAINING = """
    import sitter_agent, time
    rate, weight = {"lr": 0.1}, {"w": 1.0}
    agent = sitter_agent.start()
    agent.knob("lr", get=lambda: rate["lr"], set=lambda v: rate.update(lr=v), low=1e-6, high=10.0, scale="log")
    agent.state(save=lambda: dict(weight), load=weight.update)
    for step in agent.steps(100_000):
        agent.log(loss=1.0)
        time.sleep(0.002)
"""


@pytest.fixture(params=SHELLS)
def shell(request):
    """(name, how to run one line)."""
    found = shutil.which(request.param)
    if found is None:
        pytest.skip(f"{request.param} is not installed here, so what it makes of a line cannot be seen")
    return request.param, [found, *SHELLS[request.param]]


def test_what_is_typed_is_what_arrives(shell, tmp_path):
    (tmp_path / "sitter").write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    (tmp_path / "sitter").chmod(0o755)
    (tmp_path / "lr=0.5x").touch()  # a file that a glob could find
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    _, run = shell
    script = "\n".join(LINES)
    done = subprocess.run([*run, script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert not done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == list(LINES.values())


def test_what_is_typed_is_done(shell, sitter, script, start, tmp_path):
    training = start(sys.executable, "-u", str(script(TRAINING)))
    assert "guard on" in training.stdout.readline()
    sitter.until(lambda s: s["state"] == "running" and "lr" in s["knobs"])
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "sitter").write_text(f'#!/bin/sh\nexec {sys.executable} -m sitter.cli.main "$@"\n')
    (bin_ / "sitter").chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    _, run = shell

    def type_(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*run, line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)

    said = type_("sitter set lr=0.5x; sitter set lr=3e-4 --hold; sitter snooze gpu_hot 1h; sitter mode watch; sitter rollback --to 12,340")
    assert said.stdout.splitlines() == [
        "lr × 0.5: lr 0.1 → 0.05",
        "lr = 0.0003, held: lr 0.05 → 0.0003, held",
        "snooze gpu_hot for 1 h: gpu_hot proposes nothing for 1 h; its findings are still written down",
        "mode watch (was guard)",
    ]
    assert said.stderr.startswith("back to 12,340, batches go on: rejected: there is no state of step 12340: the nearest are")
    assert said.returncode == 1
    status = sitter.until(lambda s: s["knobs"]["lr"]["held"])
    assert status["mode"] == "watch"
    assert status["knobs"]["lr"]["effective"] == pytest.approx(3e-4)
