"""After a restart: what the script has loaded itself is not overwritten by something older, and it is said which stood."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sitter_agent.own_state import Loaded, contest, of_state

GENERIC = """
    import os, signal, sys, sitter_agent
    own = int(sys.argv[1]); told = eval(sys.argv[2]); stop = int(sys.argv[3])
    state = {"w": float(own), "step": own}
    agent = sitter_agent.start(name="x", step=told)
    agent.state(save=lambda: dict(state), load=state.update)
    print("has", state["w"], "at", agent.step, flush=True)
    for step in agent.steps(60):
        state["w"] += 1.0; state["step"] += 1
        agent.log(loss=1.0)
        if step + 1 == stop:
            os.kill(os.getpid(), signal.SIGTERM)
"""

TORCH = """
    import os, signal, sys, torch, sitter_agent
    kind, own, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    def make():
        return torch.optim.Adam(model.parameters(), .1) if kind == "adam" else torch.optim.SGD(model.parameters(), .1, momentum=.9)
    optimizer = make()
    for _ in range(own):  # what a script loads of its own is what it had saved: a state with so many steps behind it
        optimizer.zero_grad(); model(torch.ones(1, 1)).sum().backward(); optimizer.step()
    if own:
        saved = (model.state_dict(), optimizer.state_dict()); optimizer = make(); optimizer.load_state_dict(saved[1])
    agent = sitter_agent.start(model=model, optimizer=optimizer, name="x")
    print("has", round(float(model.weight), 4), "at", agent.step, flush=True)
    for step in agent.steps(60):
        optimizer.zero_grad(); model(torch.ones(1, 1)).sum().backward(); optimizer.step()
        agent.log(loss=1.0)
        if step + 1 == stop:
            print("was", round(float(model.weight), 4), flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
"""


class Scripts:
    """Two processes of one run, the second going on from what the first left at a real notice."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, body: str, *words: object) -> str:
        script = self.path / "train.py"
        script.write_text(textwrap.dedent(body))
        environment = {**os.environ, "SITTER": "off", "OMP_NUM_THREADS": "1", "SITTER_RUNTIME_DIR": str(self.path / "r")}
        run = self.path / "sitter-runs" / "x"
        if run.exists():
            (checkpoint,) = [p for p in (run / "checkpoints").iterdir() if p.suffix in (".pt", ".npz")]
            environment |= {"SITTER_RUN": str(run), "SITTER_RESUME": str(checkpoint)}
        done = subprocess.run(
            [sys.executable, str(script), *map(str, words)], cwd=self.path, env=environment, capture_output=True, text=True, timeout=200,
            check=False,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGTERM), done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


@pytest.mark.parametrize(
    ("own", "told", "says", "has"),
    [
        (0, None, "going on from step 20", "has 20.0 at 20"),
        (10, None, "of step 10, which is older", "has 20.0 at 20"),
        (30, None, "its own state of step 30: it stands", "has 30.0 at 30"),
        (20, None, "its own state of step 20: it stands, since 20-0.npz (step 20) is no newer", "has 20.0 at 20"),
        (10, 30, "its own state of step 30: it stands", "has 10.0 at 30"),
        (30, 0, "going on from step 20", "has 20.0 at 20"),
    ],
)
def test_the_newer_of_two_states_stands(scripts, own, told, says, has):
    scripts(GENERIC, 0, None, 20)
    said = scripts(GENERIC, own, told, 0)
    assert says in said
    assert has in said


@pytest.mark.parametrize(
    ("kind", "own", "says", "at"),
    [
        ("adam", 10, "of step 10, which is older", 20), ("adam", 30, "its own state of step 30: it stands", 30),
        ("sgd", 30, "of which step is not known: it stands", 20),
    ],
)  # fmt: skip
def test_torch_tells_by_the_optimizers_own_steps(scripts, kind, own, says, at):
    was = scripts(TORCH, kind, 0, 20).split("was ")[1].split()[0]
    said = scripts(TORCH, kind, own, 0)
    assert says in said
    assert f"at {at}\n" in said
    assert (f"has {was} " in said) == ("stands" not in said)


def test_states_that_name_no_step_are_beginnings():
    assert of_state({"w": 3}) == (False, 0)
    assert of_state([1, 2]) == (False, 0)
    assert of_state({"step": True, "global_step": 7}) == (True, 7)
    assert of_state({"step": "soon"}) == (False, 0)
    assert contest(Loaded(False, 0), 5, "f") == (False, "")


def test_a_script_that_says_its_step_counts_from_there_also_unwatched(tmp_path, monkeypatch):
    import sitter_agent

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    agent = sitter_agent.start(step=7, daemon=False)
    assert not agent.recording
    assert list(agent.steps(10)) == [7, 8, 9]
    agent.close()
