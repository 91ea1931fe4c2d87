"""A training that hangs under ``sitter run --restart`` with ``do = "restart"``: ended, started again, finished, and one incident told."""

import sys
from pathlib import Path

import pytest

from sitter_wire.places import RunDir

TRAINING = """
    import pathlib, re, sitter_agent, sys, time
    weight, fault = {"w": 1.0}, pathlib.Path("fault")
    def hangs():
        fault.unlink()
        if sys.argv[1] == "gil":
            re.match("(a+)+$", "a" * 60 + "b")     # C code that does not give back the interpreter's lock, and has years to do
        time.sleep(600)
    agent = sitter_agent.start()
    agent.state(save=lambda: dict(weight), load=weight.update)
    print("begins", agent.step, repr(weight["w"]), flush=True)
    first = agent.step == 0
    for step in agent.steps(1200):
        weight["w"] += 1.0
        agent.log(loss=2.0, w=weight["w"])
        time.sleep(0.3 if first and step > 1000 else 0.002)   # it is to hang, and must not be over before it is told to
        if fault.exists():
            hangs()
    print("ends", agent.step, repr(weight["w"]), flush=True)
"""
SETTINGS = """
    [rules.stalled]
    do = "restart"
    hung_seconds = 2
    still_minutes = 0.05
    [restart]
    pause = 0.3
    [checkpoints]
    healthy_steps = 40
"""


@pytest.mark.slow  # half a minute each: SIGTERM is given its time, and what hangs does not obey it
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("how", "said"), [("gil", "hung for"), ("still", "no step for")])
def test_what_hangs_is_ended_and_goes_on_from_its_good_checkpoint(sitter, script, start, how, said):
    sitter.cwd.joinpath("sitter.toml").write_text("\n".join(line.strip() for line in SETTINGS.splitlines()))
    words = [sys.executable, "-m", "sitter.cli.main", "run", "--restart", "2", "--no-ui", "--name", "x", "--"]
    front = start(*words, sys.executable, str(script(TRAINING)), how)
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 300)
    assert sitter("checkpoint").returncode == 0
    (saved,) = [c["step"] for c in sitter.until(lambda s: any(c["good"] for c in s["checkpoints"]))["checkpoints"] if c["good"]]
    Path(sitter.cwd, "fault").touch()
    out = front.communicate(timeout=200)[0]
    assert front.returncode == 0, out
    run = RunDir(sitter.cwd / "sitter-runs" / "x")
    begins = [row.split()[1:] for row in run.train_log.read_text().splitlines() if row.startswith("begins")]
    assert begins[0] == ["0", "1.0"]
    from_step = int(begins[1][0])
    assert from_step >= saved, "SIGTERM saves the newest snapshot, which is good already where enough healthy steps had followed"
    assert begins[1:] == [[str(from_step), repr(1.0 + from_step)]]
    assert "ends 1200 1201.0" in run.train_log.read_text()
    status = sitter.until(lambda s: s["state"] == "finished")
    assert (status["step"], status["branch"], status["exit"]["attempts"]) == (1200, 1, 2)
    told = sitter.lines("logbook")
    assert status["incidents"] == {"open": 0, "total": 1}, told
    (ended,) = [e for e in told if e["rule"] == "stalled" and e["kind"] == "command"]
    assert "stop --now, to start again" in ended["detail"]
    (became,) = [e for e in told if e["rule"] == "stalled" and e["kind"] == "outcome" and "to start again" in e["detail"]]
    assert became["status"] == "applied"
    opened, over = [e for e in told if e["rule"] == "stalled" and e["kind"] == "incident"]
    assert opened["status"] == "open"
    assert over["status"] in ("over", "recovered"), "with its process, or by the first step of the next"
    assert said in opened["detail"]
    (restarting,) = [e for e in told if e["status"] == "restarting"]
    assert f"from step {from_step:,} (good)" in restarting["detail"]
