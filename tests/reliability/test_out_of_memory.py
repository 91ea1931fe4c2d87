"""The kernel's out-of-memory killer takes a training, in a control group with a limit of its own: it is named, and it goes on."""

import subprocess
import sys

import pytest

from sitter.supervise.exit import read_exit
from sitter_wire.places import RunDir
from tests.cgroups import limited
from tests.integration.conftest import past_its_launch

MIB = 1 << 20
LIMIT = 256 * MIB

TRAINING = """
    import os, pathlib, sitter_agent, time
    weight, fault = {"w": 1.0}, pathlib.Path("fault")
    agent = sitter_agent.start()
    agent.state(save=lambda: dict(weight), load=weight.update)
    print("begins", agent.step, flush=True)
    first, held = agent.step == 0, []
    for step in agent.steps(1200):
        weight["w"] += 1.0
        agent.log(loss=2.0)
        time.sleep(0.3 if first and step > 1000 else 0.002)
        while first and fault.exists():
            held.append(b"x" * (8 << 20))
    print("ends", agent.step, repr(weight["w"]), flush=True)
"""


@pytest.fixture
def group():
    """The parent of the training is in it, and those are not that the test itself needs."""
    with limited(LIMIT, swaps=False) as place:
        yield place


def test_a_training_that_the_kernel_kills_for_memory_goes_on_and_the_logbook_says_so(sitter, script, group):
    sitter.cwd.joinpath("sitter.toml").write_text("[restart]\npause = 0.3\n[checkpoints]\nhealthy_steps = 40\n")
    words = [sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", "x", "--restart", "1", "--", sys.executable]
    inside = ["sh", "-c", f"echo $$ > {group}/cgroup.procs && exec \"$@\"", "sh"]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen([*inside, *words, str(script(TRAINING))], cwd=sitter.cwd, stdin=nowhere, stdout=nowhere, stderr=nowhere) as front:
        sitter.until(lambda s: s["state"] == "running" and s["step"] > 300, timeout=60)
        assert sitter("checkpoint").returncode == 0
        (saved,) = [c["step"] for c in sitter.until(lambda s: s["checkpoints"], timeout=60)["checkpoints"]]
        past_its_launch(RunDir(sitter.cwd / "sitter-runs" / "x"))
        sitter.cwd.joinpath("fault").touch()
        front.wait(120)
    run = RunDir(sitter.cwd / "sitter-runs" / "x")
    assert front.returncode == 0, run.train_log.read_text()
    ended = read_exit(run)
    assert (ended.code, ended.attempts) == (0, 2)
    rows = run.train_log.read_text().splitlines()
    assert [row for row in rows if row.startswith("begins")] == ["begins 0", f"begins {saved}"]
    assert "ends 1200 1201.0" in rows
    sitter.until(lambda s: s["state"] == "finished", timeout=60)
    (crash,) = [e for e in sitter.lines("logbook") if e["status"] == "crashed"]
    assert "ended by SIGKILL" in crash["detail"]
    assert "out-of-memory killer ended it" in crash["detail"]
