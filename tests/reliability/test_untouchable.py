"""Law 1: with no daemon, a dead daemon, a stopped daemon, training goes on as if we were not there. Law 2: nothing is lost by it."""

import json
import os
import signal
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sitter.locks import holder
from sitter.store.reader import Reader
from sitter_wire.places import RunDir
from tests.reliability.figures import untouchable

# A training of its own numbers: whatever we changed in them would show in the last digit.
MODEL = """
    import json, pathlib, random, time

    class Model:
        def __init__(self):
            self.rng = random.Random(7)
            self.w = [self.rng.gauss(0, 1) for _ in range(20)]
            self.m = [0.0] * 20
        def step(self):
            loss = 0.0
            for _ in range(20):
                x = [self.rng.gauss(0, 1) for _ in range(20)]
                error = sum(w * v for w, v in zip(self.w, x)) - sum(x)
                loss += error * error
                for i, v in enumerate(x):
                    self.m[i] = 0.9 * self.m[i] + error * v
                    self.w[i] -= 1e-4 * self.m[i]
            return loss / 20
        def save(self):
            return {"w": list(self.w), "m": list(self.m)}
        def load(self, state):
            self.w, self.m = list(state["w"]), list(state["m"])
"""

ALONE = (
    MODEL
    + """
    import sys
    model = Model()
    for step in range(int(sys.argv[1])):
        model.step()
    print(json.dumps(model.w))
"""
)

LOOKED_AFTER = (
    MODEL
    + """
    import sitter_agent, sys
    def late():
        # Seconds in which this process was ready to run and others had the core; any of its threads may have had Python's lock meanwhile.
        total = 0
        for thread in pathlib.Path("/proc/self/task").glob("*/schedstat"):
            try:
                total += int(thread.read_text().split()[1])
            except OSError:
                pass                                                     # one that has just ended
        return total / 1e9
    model = Model()
    agent = sitter_agent.start(name="x", daemon="--no-daemon" not in sys.argv)
    agent.state(save=model.save, load=model.load)
    times, last, enough, losses = [], (time.perf_counter(), time.thread_time(), late()), pathlib.Path("enough"), []
    for step in agent.steps(1_000_000):
        losses.append(model.step())
        agent.log(loss=losses[-1])
        now, cpu, others = time.perf_counter(), time.thread_time(), late()
        waited = now - last[0] - max(0.0, others - last[2])
        times.append((time.monotonic(), waited, cpu - last[1]))          # one step with its log and its safe point
        time.sleep(0.001)
        last = time.perf_counter(), time.thread_time(), late()
        if step >= 500 and step % 50 == 0 and enough.exists():
            break
    pathlib.Path("result.json").write_text(json.dumps({"w": model.w, "times": times, "steps": step + 1, "losses": losses}))
"""
)


def finish(tmp_path: Path, training: "subprocess.Popen[str]") -> dict:
    """End the training and read what it says of itself."""
    (tmp_path / "enough").touch()
    training.communicate(timeout=60)
    assert training.returncode == 0
    return json.loads((tmp_path / "result.json").read_text())


def alone(script, tmp_path: Path, steps: int) -> list[float]:
    """The weights after so many steps without anything of ours."""
    path = script(ALONE, "alone.py")
    done = subprocess.run([sys.executable, str(path), str(steps)], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def stored_losses(run: RunDir) -> list[float]:
    """Every loss in the history, in order of its record."""
    reader = Reader(run.history)
    try:
        points = [p for p in reader.tail(10_000_000) if "loss" in p.values]
        assert [p.seq for p in points] == sorted({p.seq for p in points}), "each once, in order"
        assert [p.step for p in points] == list(range(len(points)))
        return [p.values["loss"] for p in points]
    finally:
        reader.close()


def until(what, timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, "never so"
        time.sleep(0.02)


def goes_on(training: "subprocess.Popen[str]", seconds: float) -> None:
    """For so long, and until it has computed for half a second, however little of the cores is left to it."""
    process = psutil.Process(training.pid)
    before = process.cpu_times().user
    time.sleep(seconds)
    until(lambda: process.cpu_times().user - before > 0.5)


@pytest.mark.parametrize("how", ["SITTER=off", "daemon=False"])
def test_training_without_a_daemon_is_bit_for_bit_the_same_and_all_of_it_is_there_later(sitter, script, start, tmp_path, how):
    words, env = ([], {"SITTER": "off"}) if how == "SITTER=off" else (["--no-daemon"], {})
    training = start(sys.executable, "-u", str(script(LOOKED_AFTER)), *words, **env)
    line = training.stdout.readline()
    assert "recording only, nobody is watching" in line
    run = RunDir(tmp_path / "sitter-runs" / "x")
    until(lambda: any(p.stat().st_size for p in run.recorder.rglob("*.rec")))
    assert holder(run.daemon_lock) is None
    result = finish(tmp_path, training)
    assert result["w"] == alone(script, tmp_path, result["steps"])
    status = sitter.status()
    assert status["step"] == result["steps"] - 1, "the turn that a break ended is no safe point"
    assert status["agent"]["dropped"] == 0
    assert stored_losses(run) == result["losses"]


def test_training_does_not_notice_a_daemon_that_is_stopped_and_then_dies(sitter, script, start, tmp_path):
    training = start(sys.executable, "-u", str(script(LOOKED_AFTER)))
    assert "guard on" in training.stdout.readline()
    status = sitter.until(lambda s: s["state"] == "running" and s["step"] > 300)
    daemon = status["daemon"]["pid"]
    run = RunDir(tmp_path / "sitter-runs" / "x")

    stopped_at = time.monotonic()
    os.kill(daemon, signal.SIGSTOP)
    goes_on(training, 6.0)  # enough for the queues between the two to fill
    os.kill(daemon, signal.SIGCONT)
    cont_at = time.monotonic()
    sitter.until(lambda s: s["daemon"] is not None)
    killed_at = time.monotonic()
    os.kill(daemon, signal.SIGKILL)
    goes_on(training, 0.0)
    until(lambda: holder(run.daemon_lock) not in (None, daemon))  # the agent starts another
    again_at = time.monotonic()
    result = finish(tmp_path, training)

    assert result["w"] == alone(script, tmp_path, result["steps"]), "bit for bit what it is without us"
    before = [cpu for at, _, cpu in result["times"][200:] if at < stopped_at]
    stopped = [(waited, cpu) for at, waited, cpu in result["times"] if stopped_at < at < cont_at]
    dead = [(waited, cpu) for at, waited, cpu in result["times"] if killed_at < at < again_at]
    usual = statistics.median(before)
    assert len(stopped) > 100
    for phase in (stopped, dead):
        # Two cores are shared with whatever else runs here, so a step may be late: what it costs is told by its own processor time, and
        # what it waits by the time in which nobody else had the core.
        assert statistics.median(cpu for _, cpu in phase) < 1.5 * usual
        assert max(waited for waited, _ in phase) < 1.0
    ended = sitter.until(lambda s: s["state"] == "stopped")  # it left the loop early
    assert sitter("days").returncode == 0  # which waits until all is committed
    assert ended["agent"]["dropped"] == 0
    assert stored_losses(run) == result["losses"], "and the history has every value once"


SHIPPING = """
    import pathlib, random, sitter_agent, time
    agent = sitter_agent.start(name="x", daemon=False)
    rng, enough, value = random.Random(0), pathlib.Path("enough"), 0
    for step in agent.steps(100_000_000):
        agent.log(loss=float(step))                # ships at safe points, from the training thread
        if rng.random() < 0.02:
            time.sleep(0.01)
        if rng.random() < 0.002:
            agent.log(val_loss=float(step))
            time.sleep(rng.uniform(0.12, 0.3))     # a silence, in which the control thread ships
        if step % 100 == 0 and enough.exists():
            break
    pathlib.Path("steps").write_text(str(step + 1))
"""


def kill_often(sitter, script, start, tmp_path: Path, kills: int) -> tuple[int, int]:
    """(points, kills); each value that was logged is in the history once, in order."""
    training = start(sys.executable, "-u", str(script(SHIPPING)))
    assert "nobody is watching" in training.stdout.readline()
    run = RunDir(tmp_path / "sitter-runs" / "x")
    said = (tmp_path / "daemon.txt").open("w")
    words = [sys.executable, "-m", "sitter.daemon", str(run.path), "--foreground"]
    daemon = subprocess.Popen(words, stdout=said, stderr=said)
    reader = Reader(run.history)
    try:
        for i in range(kills):
            # It must have taken something in before it dies; then it dies at any moment of its work.
            seen = 0
            while True:
                until(lambda: run.history.exists())
                try:
                    now = max(reader.sequences().values(), default=0)
                except Exception:
                    now = 0
                if now > seen > 0:
                    break
                seen = max(seen, now)
                time.sleep(0.05)
            time.sleep(0.1 * (i % 4))
            daemon.kill()
            daemon.wait()
            daemon = subprocess.Popen(words, stdout=said, stderr=said)
        (tmp_path / "enough").touch()
        training.communicate(timeout=60)
        assert daemon.wait(120) == 0, "it leaves once the training has ended and all is committed"
    finally:
        daemon.kill()
        daemon.wait()
        said.close()
    steps = int((tmp_path / "steps").read_text())
    points = reader.tail(100_000_000)
    reader.close()
    losses = [p.values["loss"] for p in points if "loss" in p.values]
    assert losses == [float(s) for s in range(steps)], "each once, in order"
    vals = [p for p in points if "val_loss" in p.values]
    assert [p.values["val_loss"] for p in vals] == [float(p.step) for p in vals]
    assert len(vals) == len({p.step for p in vals}) > 0
    seqs = [p.seq for p in points]
    assert seqs == sorted(set(seqs))
    assert not [e for e in sitter.lines("logbook") if e["status"] == "gap"]
    return len(points), kills


def test_nothing_is_lost_by_killing_the_daemon(sitter, script, start, tmp_path):
    kill_often(sitter, script, start, tmp_path, 8)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_by_killing_the_daemon_a_hundred_times(sitter, script, start, tmp_path):
    print("points, kills:", kill_often(sitter, script, start, tmp_path, 100))


@pytest.mark.parametrize("fault", untouchable.FAULTS, ids=lambda fault: fault.name)
def test_training_is_untouched_by(fault):
    # What a step costs is judged over longer phases, below: others load these cores, too, while the whole suite runs. Here it is seen
    # whether each step does something that it does not do else; and what it does each time, it does the next time as well.
    for _ in range(3):
        row = untouchable.once(fault, without=untouchable.WITHOUT[:1], usual=min)
        if "skipped" in row:
            pytest.skip(row["skipped"])
        assert not untouchable.faults_of(row, {}), row
        assert row["same"] >= 5, "else there was next to nothing to compare"
        assert row["steps"] > 20
        if not (dearer := untouchable.faults_of(row, {"cpu": 0.5 * row["cpu_alone"]})):
            break
    assert not dearer, row


SESSIONS = """
    import sitter_agent, sys
    agent = sitter_agent.start(name="x", daemon=False)
    for step in agent.steps(int(sys.argv[1])):
        agent.log(loss=float(step))
"""


@pytest.mark.parametrize("known", [True, False], ids=["the first is in the history", "both are in files"])
def test_the_newest_session_is_the_one_that_began_last_though_the_clock_was_turned_back(sitter, script, start, tmp_path, known):
    path, run, offset = str(script(SESSIONS)), tmp_path / "sitter-runs" / "x", tmp_path / "offset"
    offset.write_bytes(struct.pack("<q", -untouchable.A_DAY_S))
    env = {"LD_PRELOAD": str(untouchable.turned_back(tmp_path)), "CLOCK_OFFSET": str(offset), "SITTER_RUN": str(run)}
    for steps, more in ((300, {}), (40, env)):
        assert start(sys.executable, path, str(steps), **more).wait(60) == 0
        if known:
            sitter.status()
    for _ in range(2):  # as it is taken in, and as the history has it
        status = sitter.status()
        assert (status["branch"], status["step"], status["total"]) == (1, 40, 40)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_training_is_untouched_by_each_fault_for_longer():
    figures = untouchable.measure(2, print)
    print("\n".join(untouchable.table(figures)))
    assert not untouchable.broken(figures)
