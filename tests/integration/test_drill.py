"""``sitter drill``: every fault really planted, with the built-in model and in a script of one's own; a drill that fails says so."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sitter.drill.catalogue import FAULTS
from sitter.drill.settings import put_over
from sitter.locks import holder
from sitter.paths import look
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir

QUICK = ("nan", "lr-bug", "kill-daemon", "corrupt-checkpoint", "preempt")
SLOW = tuple(name for name in FAULTS if name not in (*QUICK, "disk-full"))
OWN = tuple(name for name, fault in FAULTS.items() if fault.own)

PLAIN = """
    import random, sitter_agent, time
    state = {"w": 0.0}
    agent = sitter_agent.start()
    agent.state(save=lambda: dict(state), load=state.update)
    for step in agent.steps(1_000_000):
        error = state["w"] - 3.0
        state["w"] -= 0.01 * error
        agent.log(loss=1.0 + error * error + 0.1 * random.random())
        time.sleep(0.004)
"""

TORCH = """
    import time, torch, sitter_agent
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    agent = sitter_agent.start(model=model, optimizer=optimizer)
    for step in agent.steps(1_000_000):
        x = torch.randn(64, 16)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        agent.log(loss=loss.item())
        time.sleep(0.004)
"""


def drill(sitter, *words: str, code: int = 0, timeout: float = 250.0, **env: str) -> dict:
    """The report; and nothing of the drill is left running."""
    done = sitter("drill", "--json", *words, timeout=timeout, **env)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    report: dict = json.loads(done.stdout)
    assert report["verdict"] == ("FAIL" if code else "PASS")
    assert report["run"].startswith(f"drill-{report['fault']}-")
    run = RunDir(sitter.cwd / "sitter-runs" / report["run"])
    assert (look(run).agent_pid, holder(run.daemon_lock)) == (None, None)
    process = TrainingProcess.find(run)
    assert process is None or not process.alive()
    return report


def check(sitter, report: dict) -> None:
    """What every one promises."""
    assert report["planted"]
    assert report["noticed"]
    assert 0.0 <= report["time_to_notice_s"] < 60.0
    assert report["steps_lost"] >= 0
    assert report["did"]
    status = json.loads(sitter("status", "-r", report["run"], "--json").stdout)
    assert status["state"] == "stopped", "a drill that is over is nothing to be resumed"


@pytest.mark.parametrize("fault", QUICK)
def test_the_builtin_model_withstands(sitter, fault):
    report = drill(sitter, fault)
    check(sitter, report)
    expected = {
        "nan": "recovered", "lr-bug": "lr 0.00", "kill-daemon": "every step is in the history once", "corrupt-checkpoint": "a new process",
        "preempt": "a new process",
    }[fault]  # fmt: skip
    assert expected in report["ended"]
    if fault == "preempt":
        assert report["steps_lost"] == 0
    if fault == "corrupt-checkpoint":
        assert "was altered" in report["noticed"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", SLOW)
def test_the_builtin_model_withstands_the_rest(sitter, fault):
    check(sitter, drill(sitter, fault))


def test_a_full_disk_or_why_not(sitter, tmp_path):
    done = sitter("drill", "--json", "disk-full", timeout=250)
    if done.returncode == 1 and "cannot be mounted" in done.stderr:
        assert "run this drill as root" in done.stderr
        assert not done.stdout
        return
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    check(sitter, report)
    assert "make room" in report["did"]
    assert (tmp_path / "sitter-runs" / report["run"] / "run.toml").is_file(), "what is left of it can be read on"
    assert "sitter-drill-" not in Path("/proc/mounts").read_text()


def test_a_parameter_of_ones_own_script_is_made_nan_and_put_back(sitter, script):
    report = drill(sitter, "nan", "--", sys.executable, str(script(PLAIN)))
    check(sitter, report)
    assert report["planted"] == "w in the state was made NaN"
    assert report["steps_lost"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", OWN)
def test_a_torch_script_withstands(sitter, script, fault):
    report = drill(sitter, fault, "--", sys.executable, str(script(TORCH)))
    check(sitter, report)
    if fault == "nan":
        assert report["planted"] == "the parameter 2.bias was made NaN"


def test_a_setup_in_which_nothing_acts_fails_and_says_why(sitter, script):
    (sitter.cwd / "sitter.toml").write_text('mode = "watch"\n')
    report = drill(sitter, "nan", "--", sys.executable, str(script(PLAIN)), code=1)
    assert report["noticed"]
    assert report["time_to_notice_s"] is not None
    assert "the guard saw it and does nothing: in this set-up it may only watch" in report["ended"]
    assert report["steps_lost"] is None


def test_the_list_names_every_fault_with_a_sentence(sitter):
    for words in ([], ["list"]):
        said = sitter("drill", *words)
        assert said.returncode == 0
        assert [line.split()[0] for line in said.stdout.splitlines()[:-1]] == list(FAULTS)
        assert all(fault.title in said.stdout for fault in FAULTS.values())
    assert [f["fault"] for f in json.loads(sitter("drill", "list", "--json").stdout)] == list(FAULTS)


def test_wrong_usage_is_refused_before_anything_is_made(sitter):
    assert "did you mean kill-daemon?" in sitter.refused("drill", "kil-daemon", code=2)
    assert "needs the built-in model" in sitter.refused("drill", "lr-bug", "--", sys.executable, "train.py", code=2)
    assert "length of time" in sitter.refused("drill", "nan", "--patience", "soon", code=2)
    assert "was not found" in sitter.refused("drill", "nan", "--", "pyhton", "train.py")
    assert not (sitter.cwd / "sitter-runs").exists()


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert not done.stdout
    return done.stderr.strip().splitlines()[-1]


def test_a_script_in_which_the_fault_cannot_be_planted(sitter, script):
    without = script("import time; time.sleep(60)", "without.py")
    said = refusal(sitter("drill", "nan", "--start-within", "1.5s", "--", sys.executable, str(without)))
    assert "no sitter_agent.start() within 2 s" in said
    short = script("import sitter_agent, time\na = sitter_agent.start()\nfor s in a.steps(5):\n    time.sleep(0.2)", "short.py")
    said = refusal(sitter("drill", "kill-daemon", "--", sys.executable, str(short)))
    assert "the training ended (exit code 0) before 30 steps" in said
    body = "import sitter_agent, time\na = sitter_agent.start()\nfor s in a.steps(9999):\n    a.log(loss=1.0); time.sleep(0.01)"
    bare = script(body, "bare.py")
    said = refusal(sitter("drill", "nan", "--", sys.executable, str(bare)))
    assert "has told the agent no state" in said


def test_a_drill_that_is_ended_from_outside_leaves_nothing_running(sitter, start):
    process = start(sys.executable, "-m", "sitter.cli.main", "drill", "hang")
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 5)
    (path,) = (sitter.cwd / "sitter-runs").iterdir()
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM
    assert (look(RunDir(path)).agent_pid, holder(RunDir(path).daemon_lock)) == (None, None)


def test_the_users_own_settings_stay_and_only_what_the_drill_needs_is_put_over_them(tmp_path):
    run = RunDir(tmp_path)
    own = 'mode = "act"\n[rules.stalled]\nminutes = 5\nmode = "ask"\n'
    own += '[notify.my-phone]\nkind = "ntfy"\nurl = "https://x/\\u00e9\\""\nevents = ["crashed"]\n'
    own += '[checkpoints]\nhealthy_steps = 30\nafter = "rclone copy {path} far:away"\n'
    run.sitter_toml.write_text(own, encoding="utf-8")
    said = put_over(run, {"rules.stalled": {"still_minutes": 0.1, "do": "notify"}, "restart": {"pause": 1.0}})
    assert said == [
        "[rules.stalled] still_minutes = 0.1", '[rules.stalled] do = "notify"', "[restart] pause = 1.0", '[checkpoints] after = ""'
    ]  # fmt: skip
    expected = tomllib.loads(own)
    expected["rules"]["stalled"] |= {"still_minutes": 0.1, "do": "notify"}
    expected["restart"] = {"pause": 1.0}
    del expected["checkpoints"]["after"]
    assert tomllib.loads(run.sitter_toml.read_text(encoding="utf-8")) == expected


def test_nothing_of_a_drill_is_imported_into_a_training_that_is_none(sitter, script):
    code = "import sys, sitter_agent\na = sitter_agent.start(daemon=False)\nprint('sitter_agent.drill' in sys.modules)"
    said = subprocess.run([sys.executable, str(script(code))], cwd=sitter.cwd, capture_output=True, text=True, check=True, timeout=100)
    assert said.stdout.strip() == "False"
