"""What other programs read: ``status --json``, ``logbook --json`` and the rest, of a living run and of a dead one (DESIGN §10)."""

import contextlib
import datetime
import json
import os
import re
import signal
import sys

import pytest

STATUS = {
    "run", "verdict", "state", "step", "micro", "branch", "total", "ends_at", "mode", "watching", "goal", "daemon", "agent", "signals",
    "knobs", "gpus", "proposals", "checkpoints", "incidents", "exit",
}  # fmt: skip
LOGBOOK = ["time", "step", "branch", "kind", "rule", "action", "status", "detail"]
KINDS = {"finding", "proposal", "command", "outcome", "incident", "checkpoint", "note", "restart"}

TRAINING = """
    import math, pathlib, sitter_agent, time
    rate, weight, enough = {"lr": 0.1}, {"w": 1.0}, pathlib.Path("enough")
    agent = sitter_agent.start(goal="val_acc", better="higher")
    agent.knob("lr", get=lambda: rate["lr"], set=lambda v: rate.update(lr=v), low=1e-6, high=10.0, scale="log")
    agent.state(save=lambda: dict(weight), load=weight.update)
    for step in agent.steps(100_000):
        agent.log(loss=2.0 + 0.1 * (step % 3), above=math.inf, below=-math.inf, aside=math.nan)
        if step % 50 == 0:
            agent.log(val_acc=min(0.9, step / 1000))
        time.sleep(0.003)
        if enough.exists():
            raise SystemExit(5)
"""


def is_time(text: object) -> bool:
    return isinstance(text, str) and datetime.datetime.fromisoformat(text).tzinfo is not None


def strict(text: str) -> object:
    """JSON without the NaN and Infinity that only Python reads."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def check_status(s: dict) -> None:
    """Types and nulls of every key."""
    assert set(s) >= STATUS
    assert s["verdict"] in ("OK", "HEALING", "NEEDS YOU", "DEAD")
    assert s["mode"] in ("watch", "guard", "act")
    assert s["ends_at"] is None or is_time(s["ends_at"])
    assert s["signals"]["above"]["last"] == "inf"
    assert s["signals"]["below"]["last"] == "-inf"
    assert s["signals"]["aside"]["last"] == "nan"
    for now in s["signals"].values():
        assert set(now) >= {"last", "step"}
    assert s["goal"].keys() >= {"name", "better", "last", "best"}
    assert (s["goal"]["name"], s["goal"]["better"]) == ("val_acc", "higher")
    assert s["knobs"]["lr"].keys() >= {"scheduled", "scale", "effective", "low", "high"}
    assert s["incidents"].keys() == {"open", "total"}
    for c in s["checkpoints"]:
        assert c.keys() >= {"step", "branch", "good", "verified", "bytes", "path"}
    assert s["agent"].keys() >= {"pid", "last_seen_s", "dropped"}


def test_status_and_logbook_of_a_run_that_lives_and_of_one_that_died(sitter, script, start, tmp_path):
    front = start(sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", "x", "--", sys.executable, str(script(TRAINING)))
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 400 and s["ends_at"] and s["agent"]["last_seen_s"] is not None)
    for words in (["checkpoint"], ["set", "lr=0.5x"], ["note", "hello"], ["rollback", "--to", "99999"]):
        sitter(*words)
    s = strict(sitter("status", "--json").stdout)
    check_status(s)
    assert s["state"] == "running"
    assert s["exit"] is None
    assert s["total"] == 100_000
    assert s["micro"] == s["step"] > 400
    assert s["daemon"].keys() >= {"pid", "version"}
    sitter.until(lambda s: s["agent"]["last_seen_s"] < 5)
    assert s["watching"] == ["loss"]
    (row,) = strict(sitter("ls", "--json").stdout)
    assert (row["run"], row["live"], row["agent_pid"]) == ("x", True, s["agent"]["pid"])

    for line in sitter("logbook", "--json").stdout.splitlines():
        entry = strict(line)
        assert list(entry) == LOGBOOK
        assert entry["kind"] in KINDS
        assert is_time(entry["time"])
    for words in (["status"], ["logbook"], ["days"], ["rules", "list"], ["rules", "show", "guard"], ["export", "--format", "csv"]):
        done = sitter(*words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert not done.stderr
    assert "no notifier is set up" in sitter("notify", "--test").stderr

    (tmp_path / "enough").touch()
    front.communicate(timeout=100)
    assert front.returncode == 5
    s = sitter.until(lambda s: s["state"] == "crashed")
    if s["daemon"] is not None:  # it leaves by itself ten seconds after the last question
        with contextlib.suppress(ProcessLookupError):
            os.kill(s["daemon"]["pid"], signal.SIGTERM)
    sitter.until(lambda s: s["daemon"] is None)
    s = strict(sitter("status", "--json").stdout)
    check_status(s)
    assert (s["state"], s["verdict"], s["daemon"], s["ends_at"], s["micro"]) == ("crashed", "DEAD", None, None, None)
    assert (s["exit"]["code"], s["exit"]["signal"]) == (5, None)
    assert s["agent"]["last_seen_s"] is None
    assert s["knobs"]["lr"]["scale"] == 0.5
    book = sitter.lines("logbook")
    told = [(e["kind"], e["action"], e["status"]) for e in book]
    for wanted in (("outcome", "set lr=0.5x", "applied"), ("outcome", "rollback --to 99999", "rejected"), ("incident", None, "crashed")):
        assert wanted in told
    days = sitter.lines("days")  # two, where midnight came meanwhile
    assert sum(day["steps"] for day in days) == pytest.approx(s["step"], abs=len(days))
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", day["day"]) for day in days)
    head, *rows = sitter("export", "--format", "csv").stdout.splitlines()
    assert head.startswith("step,")
    assert len(rows) >= s["step"]
    done = sitter("export", "--format", "tensorboard", "-o", "tb")
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "tb").rglob("*tfevents*"))
    for words in (["set", "lr=0.5x"], ["pause"], ["checkpoint"], ["stop"], ["mode", "watch"], ["notify", "--test"]):
        done = sitter(*words)
        assert done.returncode in (0, 1)
        assert "Traceback" not in done.stderr
        if words[0] in ("set", "pause", "checkpoint", "stop"):
            assert done.returncode == 1
            assert "the training does not run (crashed)" in done.stderr
    assert sitter("doctor").returncode == 0


def test_before_the_first_step_what_is_not_known_is_null(sitter, script, start):
    path = script("import sitter_agent, time\nagent = sitter_agent.start(name='x')\ntime.sleep(100)\n")
    start(sys.executable, "-u", str(path)).stdout.readline()
    s = sitter.until(lambda s: s["agent"] is not None and s["state"] == "starting")
    assert (s["total"], s["ends_at"], s["goal"], s["exit"]) == (None, None, None, None)
    assert (s["signals"], s["knobs"], s["checkpoints"], s["proposals"]) == ({}, {}, [], [])
    assert s["step"] in (None, 0)
    assert s["verdict"] in ("OK", "NEEDS YOU")
