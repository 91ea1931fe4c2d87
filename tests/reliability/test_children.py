"""Forked children, DataLoader workers and a second ``start``: one session at a time is recorded, each value once."""

import sys

from sitter.store.reader import Reader
from sitter_wire.places import RunDir

WORKERS = """
    import os, sitter_agent, torch, warnings
    warnings.filterwarnings("ignore")
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    agent = sitter_agent.start(model=model, optimizer=optimizer)
    x = torch.randn(256, 4)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=32, shuffle=True, num_workers=2)
    for step, (a, b) in agent.loop(loader, total=40):
        loss = torch.nn.functional.mse_loss(model(a), b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        agent.log(loss=float(step))
        if step == 20:
            child = os.fork()
            if child == 0:                       # it goes on with the script's own objects, as a careless fork does
                for _ in range(50):
                    agent.log(loss=-1.0)
                os._exit(0)
            os.waitpid(child, 0)
    print("done")
"""

TWICE = """
    import sitter_agent
    for cell in (1, 2):
        agent = sitter_agent.start(total=60)
        for step in agent.steps(60):
            agent.log(loss=100.0 * cell + step)
    print("done")
"""


# Whoever asks for the logbook first has it from a history in which all is committed.
def losses(run: RunDir) -> dict[str, list[float]]:
    """Values of ``loss`` in the order of their records, by session, oldest session first."""
    reader = Reader(run.history)
    try:
        found: dict[str, list[float]] = {s.session: [] for s in reader.sessions()}
        for p in reader.tail(1_000_000):
            if "loss" in p.values:
                found[p.session].append(p.values["loss"])
        return found
    finally:
        reader.close()


def test_workers_and_forked_children_leave_the_record_alone(sitter, script, tmp_path):
    done = sitter("run", "--no-ui", "--name", "x", "--", sys.executable, str(script(WORKERS)), timeout=200)
    assert done.returncode == 0, done.stdout
    assert "done" in done.stdout
    status = sitter.until(lambda s: s["state"] == "finished")
    assert status["step"] == 40
    assert status["agent"]["dropped"] == 0
    assert not [e for e in sitter.lines("logbook") if e["status"] == "gap"]
    (recorded,) = losses(RunDir(tmp_path / "sitter-runs" / "x")).values()
    assert recorded == [float(s) for s in range(40)]


def test_a_second_start_in_the_same_process_is_a_second_session(sitter, script, tmp_path):
    done = sitter("run", "--no-ui", "--name", "x", "--", sys.executable, str(script(TWICE)))
    assert done.returncode == 0, done.stdout
    status = sitter.until(lambda s: s["state"] == "finished")
    assert (status["step"], status["branch"]) == (60, 1)
    told = sitter.lines("logbook")
    assert len([e for e in told if e["status"] == "started"]) == 2, told
    recorded = losses(RunDir(tmp_path / "sitter-runs" / "x"))
    assert list(recorded.values()) == [[100.0 + s for s in range(60)], [200.0 + s for s in range(60)]]
    assert "Traceback" not in done.stdout


def test_a_second_start_of_a_plain_script_is_a_second_run(sitter, script, start, tmp_path):
    training = start(sys.executable, "-u", str(script(TWICE)))
    out = training.communicate(timeout=120)[0]
    assert training.returncode == 0, out
    names = sorted(p.name for p in (tmp_path / "sitter-runs").iterdir())
    assert len(names) == 2
    for name, cell in zip(names, (1, 2), strict=True):
        run = tmp_path / "sitter-runs" / name
        sitter.until(lambda s: s["state"] == "finished", "-r", str(run))
        assert [e["detail"] for e in sitter.lines("logbook", "-r", str(run)) if e["status"] == "loop ended"] == ["total"]
        assert list(losses(RunDir(run)).values()) == [[100.0 * cell + s for s in range(60)]]
