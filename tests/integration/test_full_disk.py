"""A full disk: training goes on, it is said, and once there is room again everything is as it should be."""

import subprocess
import sys
from pathlib import Path

import pytest

from sitter.drill.disk_full import fill
from sitter.store.reader import Reader
from tests.integration.conftest import Shell

TRAINING = """
    import pathlib, sitter_agent, time
    weight, enough = {"w": [0.0] * 30_000}, pathlib.Path("/ENOUGH")
    agent = sitter_agent.start(name="x")
    agent.state(save=lambda: {"w": list(weight["w"])}, load=weight.update)
    for step in agent.steps(1_000_000):
        agent.log({f"s{i}": float(step) for i in range(120)} | {"loss": 1.0 + step % 7})
        time.sleep(0.002)
        if enough.exists():
            break
    print("left the loop at", step)
"""


PLAIN = """
    import sitter_agent
    agent = sitter_agent.start()
    for step in agent.steps(30):
        agent.log(loss=1.0)
    print("all done")
"""


@pytest.fixture
def small(tmp_path):
    """A file system of 100 MB, of which a checkpoint leaves 64 MB aside."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", place], capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("a small file system cannot be mounted here (that takes root), so no disk can be filled")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_training_goes_on_while_the_disk_is_full_and_all_is_written_once_there_is_room(small, tmp_path, script):
    sitter = Shell(small)
    enough = tmp_path / "enough"
    path = script(TRAINING.replace("/ENOUGH", str(enough)))
    with (tmp_path / "out.txt").open("w") as out:
        training = subprocess.Popen([sys.executable, "-u", str(path)], cwd=small, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        sitter.until(lambda s: s["state"] == "running" and s["step"] > 50)
        assert sitter("checkpoint").returncode == 0
        before = sitter.until(lambda s: s["checkpoints"])
        filler = fill(small)
        full = sitter.until(lambda s: any("is full" in w for w in s["warnings"]))
        assert training.poll() is None
        refused = sitter("checkpoint")
        assert refused.returncode == 1
        assert len(refused.stderr.splitlines()) == 1
        assert "make room" in refused.stderr
        # 1 MiB of the recorder lasts for about 900 steps: past it nothing more can be kept, and that is counted.
        dropped = sitter.until(lambda s: s["agent"]["dropped"] > 0)
        sitter.until(lambda s: s["step"] > max(full["step"], dropped["step"]) + 300)
        assert sitter("note", "written while it was full").returncode == 0

        filler.unlink()
        healed = sitter.until(lambda s: not any("is full" in w for w in s["warnings"]) and s["signals"]["loss"]["step"] > dropped["step"])
        assert [c["path"] for c in healed["checkpoints"]] == [c["path"] for c in before["checkpoints"]]
        assert sitter("checkpoint").returncode == 0
        enough.touch()
        training.wait(100)
        assert training.returncode == 0, (tmp_path / "out.txt").read_text()
        last = int((tmp_path / "out.txt").read_text().split()[-1])
        ended = sitter.until(lambda s: s["state"] == "stopped" and s["signals"]["loss"]["step"] == last)
    finally:
        training.kill()
        training.wait()
    book = sitter.lines("logbook")
    assert any(e["detail"] == "written while it was full" for e in book)
    assert any("were not kept" in e["detail"] for e in book), "what is missing is told"
    reader = Reader(Path(ended["directory"]) / "history.db")
    steps = [p.step for p in reader.tail(10_000_000) if "loss" in p.values]
    reader.close()
    assert steps == sorted(set(steps)), "each once, in order"
    missing = last + 1 - len(steps)
    # A step has two records: the script's values, and step_time.
    assert 0 < missing <= ended["agent"]["dropped"]
    said = (tmp_path / "out.txt").read_text()
    assert "Traceback" not in said


def test_a_run_that_cannot_be_made_is_told_and_a_plain_script_trains_on(small, script, tmp_path):
    sitter = Shell(small)
    (small / "sitter-runs").mkdir()
    fill(small)
    done = sitter("run", "--no-ui", "--", sys.executable, "-c", "print('hello')")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "No space left" in done.stderr or "full" in done.stderr
    path = script(PLAIN)
    plain = subprocess.run([sys.executable, str(path)], cwd=small, capture_output=True, text=True, timeout=100, check=False)
    assert plain.returncode == 0, plain.stderr
    assert "all done" in plain.stdout
    assert "Traceback" not in plain.stderr
    assert "nobody is watching" in plain.stderr + plain.stdout
