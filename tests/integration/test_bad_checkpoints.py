"""A checkpoint cut short, altered or gone is never restored: rollback and resume say which and why, and what is left is used."""

import json
import sys

from sitter_wire.places import RunDir

TRAINING = """
    import pathlib, sitter_agent, time
    weight, crash = {"w": 1.0}, pathlib.Path("crash")
    agent = sitter_agent.start(name="x")
    agent.state(save=lambda: dict(weight), load=weight.update)
    print("begins", agent.step, repr(weight["w"]), flush=True)
    for step in agent.steps(100_000):
        weight["w"] += 1.0
        agent.log(loss=2.0, w=weight["w"])
        time.sleep(0.002)
        if step > 100 and crash.exists():
            raise SystemExit(9)
"""


def now(sitter) -> dict:
    return sitter.until(lambda s: True)


def save(sitter) -> dict:
    n = len(now(sitter)["checkpoints"])
    assert sitter("checkpoint").returncode == 0
    return sitter.until(lambda s: len(s["checkpoints"]) > n)["checkpoints"][-1]


def cut(path: str) -> None:
    with open(path, "r+b") as file:  # noqa: PTH123 — the same file, not a new one
        file.truncate(file.seek(0, 2) // 2)


def alter(path: str) -> None:
    with open(path, "r+b") as file:  # noqa: PTH123
        middle = file.seek(0, 2) // 2
        file.seek(middle)
        byte = file.read(1)
        file.seek(middle)
        file.write(bytes([byte[0] ^ 1]))


def test_damaged_checkpoints_are_told_and_never_gone_on_from(sitter, script, start, tmp_path):
    path = str(script(TRAINING))
    front = start(sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", "x", "--", sys.executable, path)
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 20)
    first = save(sitter)
    sitter.until(lambda s: s["step"] > first["step"] + 50)
    second = save(sitter)
    cut(first["path"])
    alter(second["path"])
    (tmp_path / "crash").touch()
    front.communicate(timeout=100)
    assert front.returncode == 9
    (tmp_path / "crash").unlink()

    # The process is gone, and with it the snapshots in memory: what is on disk is needed now.
    said = sitter.refused("resume")
    for checkpoint, told in ((first, "is cut short"), (second, "was altered")):
        assert f"{checkpoint['path']} {told}" in said
    assert now(sitter)["state"] == "crashed", "nothing was started from a state that is not the one it claims"
    for checkpoint in (first, second):
        side = json.loads((RunDir(tmp_path / "sitter-runs" / "x").checkpoints / f"{checkpoint['step']}-0.json").read_text())
        assert side["step"] == checkpoint["step"], "nothing was thrown away"

    alter(second["path"])  # back to what it was
    resumed = sitter("resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"from step {second['step']:,}" in resumed.stdout
    sitter.until(lambda s: s["state"] == "running" and s["step"] > second["step"])

    # The first one's step is older than this process: no snapshot can stand in for it.
    refused = sitter("rollback", "--to", str(first["step"]))
    assert refused.returncode == 1
    assert f"{first['path']} is cut short" in refused.stderr
    signals = now(sitter)["signals"]
    assert signals["w"]["last"] == signals["w"]["step"] + 2, "the state is the one that was there"
    assert sitter("stop").returncode == 0
