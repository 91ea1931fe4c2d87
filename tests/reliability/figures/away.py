"""The daemon away for an hour: all of it arrives when it is back, and nothing of the past is acted on.

The hour is made, not waited for: the trainer logs as many steps as an hour has, and the clock that stamps its records runs over the past
hour until it meets the present. A daemon sees its first second, and is killed; the rest is logged at once, without one. Half an hour ago
the loss was not a number for some steps, in mode ``act``. Then either the trainer goes on at 10 Hz and a daemon comes (``live``), or it is
killed first and the daemon reads what it left (``dead``). To the live one the same fault happens once more, now: that must be acted on, or
it would prove nothing that the first was not.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sitter_agent
from sitter.client import Client
from sitter.errors import SitterError
from sitter.store.reader import Reader
from sitter_agent import quick, recorder
from sitter_wire import rundir
from sitter_wire.places import RunDir
from sitter_wire.queries import GetStatus
from tests.reliability.figures.apart import apart
from tests.reliability.figures.daemons import ended, fork_daemon, kill
from tests.reliability.figures.trainer import counters

HOUR_S = 3600
BAD_STEPS = 3
DONE, STATE = 0, 1
"""Slots: calls of ``log`` that returned, and times that a state was put back."""
BEGINS_S, ARRIVES_S, LEAVES_S = 60.0, 300.0, 120.0
LATE_S = 2.0
"""PROTOCOL.md: older records are the past."""


def loss(step: int, first_bad: int) -> float:
    """Falls slowly; not a number for some steps half an hour ago."""
    return math.nan if first_bad <= step < first_bad + BAD_STEPS else 2.0 + math.exp(-step / 1e5) + (step * 7919 % 1000) * 1e-4


def train(place: Path, run: Path, hz: int) -> None:
    """10 Hz until the file ``away`` lies in ``place``, what is left of an hour's steps at once, then 10 Hz again until killed."""
    os.environ["SITTER_RUN"] = str(run)
    os.environ["SITTER_MODE"] = "act"
    said = os.open(place / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    shared, hour = counters(place / "returned"), HOUR_S * hz
    done, real, past = 0, time.monotonic_ns, True
    began = real() - HOUR_S * 10**9
    # Both ways into the file: the short one keeps the clock that it was made with.
    recorder.monotonic_ns = quick.monotonic_ns = lambda: began + done * 10**9 // hz if past else real()
    agent = sitter_agent.start(daemon=False)
    weights = {"w": 1.0}

    def put_back(state: dict[str, float]) -> None:
        weights.update(state)
        shared[STATE] += 1

    agent.state(save=lambda: dict(weights), load=put_back)
    bad_now, away, gone = place / "bad", place / "away", False
    for step in agent.steps(1 << 60):
        if step < hour:
            agent.log(loss=loss(step, hour // 2))
            done = shared[DONE] = step + 1
            if not gone:
                time.sleep(0.1)
                gone = away.exists()
            continue
        past = False
        if bad_now.exists():
            bad_now.unlink()
            weights["w"] = math.nan
        agent.log(loss=loss(step, -10) * weights["w"])
        shared[DONE] = step + 1
        time.sleep(0.1)


def hour_away(place: Path, hz: int, how: str) -> dict[str, Any]:
    """Figures of one case; to be called in a process that has opened nothing."""
    place.mkdir(parents=True, exist_ok=True)
    run = rundir.create(place, "x", command=["away"], supervised=False, sockets="", version="", mode="act")
    shared, hour, faults = counters(place / "returned"), HOUR_S * hz, []
    began = time.monotonic()
    trainer = os.fork()
    if not trainer:
        try:
            train(place, run.path, hz)
        finally:
            os._exit(1)
    daemon = 0
    try:
        until(lambda: shared[DONE] > 0, BEGINS_S, "nothing was logged")
        daemon = fork_daemon(run, place / "daemon.txt")
        until(lambda: steps_stored(run) > 10, BEGINS_S, "the first daemon took nothing in")
        kill(daemon)
        daemon = 0
        (place / "away").touch()
        until(lambda: shared[DONE] > hour, ARRIVES_S, "the hour was not logged")
        logged_in = time.monotonic() - began
        if how == "dead":
            kill(trainer)
            trainer = 0
        returned = shared[DONE]
        back = time.monotonic()
        daemon = fork_daemon(run, place / "daemon.txt")
        until(lambda: steps_stored(run) >= returned, ARRIVES_S, "not all of it arrived")
        arrived_in = time.monotonic() - back
        figures: dict[str, Any] = {"hz": hz, "how": how, "logged": returned, "logged_s": logged_in, "arrived_s": arrived_in}
        figures["acted_on_past"] = shared[STATE] + len(acts(run, -1))
        if how == "live":
            figures["acted_on_present"] = present_fault(place, run, shared)
            kill(trainer)
            trainer = 0
        code = ended(daemon, LEAVES_S)
        if code != 0:
            faults.append(f"the daemon did not leave: {code}")
        else:
            daemon = 0
    finally:
        for pid in (trainer, daemon):
            if pid:
                kill(pid)
    return {**figures, **history_of(run, returned, hour), "faults": faults + tracebacks(place)}


def present_fault(place: Path, run: RunDir, shared: memoryview) -> int:
    """The same fault, now: 1 where a state was put back for it."""
    client = Client(run)
    before = shared[STATE]
    try:
        seen = client.ask(GetStatus(), timeout=BEGINS_S).step or 0
        # Healthy steps of the present: 10 Hz, and a snapshot a second.
        until(lambda: (client.ask(GetStatus(), timeout=BEGINS_S).step or 0) >= seen + 30, BEGINS_S, "it does not go on")
        step = client.ask(GetStatus(), timeout=BEGINS_S).step
        (place / "bad").touch()
        until(lambda: shared[STATE] > before, BEGINS_S, "a fault of the present was not acted on")
        until(lambda: any(s > step for s in acts(run, step)), BEGINS_S, "no command is in the logbook")
    except AssertionError:
        pass
    finally:
        client.close()
    return int(shared[STATE] > before)


def acts(run: RunDir, after_step: int) -> list[int]:
    """Steps of the commands in the logbook beyond a step."""
    reader = Reader(run.history)
    try:
        return [e.step or 0 for e in reader.logbook() if e.kind in ("command", "proposal", "outcome") and (e.step or 0) > after_step]
    finally:
        reader.close()


def steps_stored(run: RunDir) -> int:
    """Steps up to here are in the history."""
    reader = Reader(run.history)
    try:
        now = reader.signals().get("loss")
        return now.step + 1 if now is not None else 0
    except SitterError:
        return 0
    finally:
        reader.close()


def history_of(run: RunDir, returned: int, hour: int) -> dict[str, Any]:
    """Lost, doubled and wrong among the first ``returned`` steps; findings of the past; where in time the records lie."""
    reader = Reader(run.history)
    try:
        steps, times, values = reader.points("loss", [(0, -1, None)])
        entries = reader.logbook(limit=100_000)
    finally:
        reader.close()
    kept = steps < returned
    steps, times, values = steps[kept], times[kept], values[kept]
    once, counts = np.unique(steps, return_counts=True)
    made = np.array([loss(s, hour // 2) for s in range(hour)])
    inside = steps < hour
    same = (values[inside] == made[steps[inside]]) | (np.isnan(values[inside]) & np.isnan(made[steps[inside]]))
    findings = [e for e in entries if e.kind == "finding" and (e.step or 0) < hour and e.rule == "guard"]
    quarters = np.interp(np.linspace(0, hour - 1, 5), steps, times) / 3600 if len(steps) else np.zeros(5)
    return {
        "lost": returned - len(once),
        "doubled": int((counts - 1).sum()),
        "wrong": int((~same).sum()),
        "findings_of_past": len(findings),
        "of_them_late": sum(e.status == "late" for e in findings),
        "hours": float(quarters[-1] - quarters[0]),
        "quarters": [float(q) for q in np.diff(quarters)],
        "gaps": sum(e.status == "gap" for e in entries),
    }


def tracebacks(place: Path) -> list[str]:
    """What daemon and trainer complained of."""
    said = [p.read_text(errors="replace") for p in (place / "daemon.txt", place / "said.txt") if p.exists()]
    return [line for text in said for line in text.splitlines() if "Traceback" in line or "ERROR" in line]


def until(what: Callable[[], bool], timeout: float, else_: str) -> None:
    """Across processes there is no event to wait for."""
    end = time.monotonic() + timeout
    while not what():
        if time.monotonic() > end:
            raise AssertionError(else_)
        time.sleep(0.05)


CASES = ((10, "live"), (10, "dead"), (1000, "live"), (1000, "dead"))


def measure(cases: int, say: Callable[[str], object]) -> dict[str, Any]:
    """The first so many of ``CASES``, two at a time."""
    out: dict[str, Any] = {"cases": []}
    for pair in (CASES[: min(2, cases)], CASES[2:cases]):
        with apart() as place:
            for (hz, how), case in zip(pair, place.all("tests.reliability.figures.away", pair), strict=True):
                out["cases"].append({"hz": hz, "how": how, **case})
                say(f"an hour at {hz} Hz, {how}: {out['cases'][-1]}")
                place.keep |= bool(case["faults"])
    return out


def broken(figures: dict[str, Any]) -> list[str]:
    """What of the promise does not hold, in sentences."""
    out = []
    for case in figures["cases"]:
        name = f"an hour at {case['hz']} Hz, {case['how']}"
        out += [f"{name}: {fault}" for fault in case["faults"]]
        if "lost" not in case:
            continue
        out += [f"{name}: {case[word]} {word}" for word in ("lost", "doubled", "wrong", "gaps", "acted_on_past") if case[word]]
        if case.get("acted_on_present", 1) != 1:
            out.append(f"{name}: a fault of the present was not acted on, so that nothing was done about the past proves nothing")
        if not case["findings_of_past"] or case["of_them_late"] != case["findings_of_past"]:
            late = f"{case['of_them_late']} of {case['findings_of_past']} findings of the past are marked late"
            out.append(f"{name}: {late}, at least one was due")
        if abs(case["hours"] - 1.0) > 0.01 or any(abs(quarter - 0.25) > 0.01 for quarter in case["quarters"]):
            shown = ", ".join(f"{quarter:.3f}" for quarter in case["quarters"])
            out.append(f"{name}: the history shows its quarters as {shown} hours, so it was not the past that was logged")
    return out


def table(figures: dict[str, Any]) -> list[str]:
    """As a person reads it."""
    return [
        f"{c['hz']:>5} Hz, the trainer {'lives' if c['how'] == 'live' else 'is dead'}: {c['logged']:,} records in the history after "
        f"{c['arrived_s']:.1f} s, {c['lost']} lost; {c['acted_on_past']} actions on the past"
        + (f", {c['acted_on_present']} on the same fault now" if "acted_on_present" in c else "")
        for c in figures["cases"]
        if "lost" in c
    ]


if __name__ == "__main__":
    print(json.dumps(hour_away(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
