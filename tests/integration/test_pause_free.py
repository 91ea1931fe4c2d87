"""`sitter pause --free` from the shell, on a training under the real daemon."""

import subprocess
import sys

import pytest

from tests.integration.conftest import Shell

TRAINING = """
    import torch, pathlib, sitter_agent, time
    if {parks}:
        from sitter_agent.frameworks import torch_parked
        torch_parked.KIND = "cpu"  # the storages are really shrunk and really grown
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    agent = sitter_agent.start(model=model, optimizer=optimizer, name="x")
    for step in agent.steps(100_000):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 64)).square().mean()
        loss.backward()
        optimizer.step()
        agent.log(loss=float(loss.detach()))
        time.sleep(0.005)
"""


@pytest.mark.parametrize("parks", [True, pytest.param(False, marks=pytest.mark.slow)])  # the quick form of that: unit/agent/test_parking.py
def test_paused_freed_and_gone_on(tmp_path, script, parks):
    sitter = Shell(tmp_path)
    path = script(TRAINING.format(parks=parks))
    with (tmp_path / "out.txt").open("w") as out:
        training = subprocess.Popen([sys.executable, "-u", str(path)], cwd=tmp_path, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        sitter.until(lambda s: s["state"] == "running" and (s["step"] or 0) > 20, timeout=250.0)  # it imports torch first
        done = sitter("pause", "--free", "--hold")
        assert done.returncode == 0, done.stderr
        assert "written and read back" in done.stdout
        assert ("of state lie in host memory" if parks else "nothing was freed: nothing of the state lies on a GPU") in done.stdout
        status = sitter.until(lambda s: s["state"] == "paused" and s["checkpoints"])
        assert status["checkpoints"][-1]["verified"]
        if parks:
            assert "`sitter unpause` puts it back first" in sitter("rollback").stderr
        assert sitter("unpause").returncode == 0
        step = status["step"]
        sitter.until(lambda s: s["state"] == "running" and s["step"] > step + 20)
        commands = [line["action"] for line in sitter.lines("logbook", "--json") if line["kind"] == "command"]
        assert "pause --free --hold" in commands
        assert sitter("stop").returncode == 0
        assert training.wait(100) == 0
    finally:
        training.kill()
        training.wait()
