"""A poisoned snapshot is never restored: 2 ms steps, a daemon that sleeps through the onset, a second onset on the branch to be left."""

import json
import os
import signal
import sys
import time

POISONED = """
    import json, math, pathlib, random, sitter_agent, time
    rng, state, restored, taken = random.Random(0), {"w": 1.0}, [], 0

    def load(new):
        restored.append({"turn": turn, "w": repr(new["w"])})
        state.update(new)

    agent = sitter_agent.start(name="x", daemon=False)
    agent.state(save=lambda: dict(state), load=load)
    turn, ready, seen = -1, pathlib.Path("ready"), pathlib.Path("seen")  # turns are the data's: a rollback does not rewind them
    for step in agent.steps(4000):
        turn += 1
        if turn == 900:
            ready.write_text("now")
            while ready.exists():                             # the daemon is stopped in between
                time.sleep(0.005)
        if turn == 1400:                                      # both onsets, and what looks healthy between them, went unseen
            seen.write_text("now")
            while seen.exists():
                time.sleep(0.005)
        if turn in (1000, 1150):                              # two bad batches; the first has poisoned the weights for good
            state["w"] = math.nan
        bad = math.isnan(state["w"])
        # The loss is computed with the weights, but looks healthy for a while: what is saved in between is poisoned all the same.
        loss = math.nan if bad and not 1010 <= turn < 1150 else 2.0 + 0.01 * rng.gauss(0, 1)
        agent.log(loss=loss, grad_norm=1.0 + 0.05 * rng.gauss(0, 1))
        time.sleep(0.002 if turn < 1400 or restored else 0.02)    # it must not be over before its daemon has woken up
    pathlib.Path("result.json").write_text(json.dumps({"w": repr(state["w"]), "restored": restored}))
"""


def test_a_poisoned_snapshot_is_never_restored(sitter, script, start, tmp_path):
    training = start(sys.executable, "-u", str(script(POISONED)))
    run = tmp_path / "sitter-runs" / "x"

    def comes(name: str) -> None:
        end = time.monotonic() + 60
        while not (tmp_path / name).exists():
            assert time.monotonic() < end
            time.sleep(0.005)

    comes("ready")
    daemon = start(sys.executable, "-m", "sitter.daemon", str(run), "--foreground").pid
    sitter.until(lambda s: s["daemon"] and s["agent"]["last_seen_s"] is not None and s["step"] >= 890)
    os.kill(daemon, signal.SIGSTOP)
    (tmp_path / "ready").unlink()
    comes("seen")
    time.sleep(2.0)  # what it slept through is the past to it (PROTOCOL.md), and cannot trip: it must not be trusted for that
    os.kill(daemon, signal.SIGCONT)
    (tmp_path / "seen").unlink()
    out = training.communicate(timeout=200)[0]  # a minute where it never goes back
    assert training.returncode == 0, out
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["restored"], "it was gone back"
    assert all(r["w"] == "1.0" for r in result["restored"]), "to a healthy state, each time"
    assert result["w"] == "1.0"
    status = sitter.until(lambda s: s["state"] == "finished")
    assert status["signals"]["loss"]["last"] < 3
    assert status["incidents"]["open"] == 0
    outcomes = [e for e in sitter.lines("logbook") if e["kind"] == "outcome" and (e["action"] or "").startswith("rollback")]
    applied = [e for e in outcomes if e["status"] == "applied"]
    assert len(applied) == len(result["restored"]) == status["branch"]
    assert len(applied) == 1, "the second onset was on the branch that was being left: it asks for nothing"
