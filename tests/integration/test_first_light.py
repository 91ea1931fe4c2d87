"""The whole loop, with real processes: a training is recorded, watched, steered, rescued, and its end is known."""

import sys

PLAIN = """
    import sitter_agent, time, random
    state = {"w": 1.0}
    rate = {"lr": 0.1}
    agent = sitter_agent.start()
    agent.knob("lr", get=lambda: rate["lr"], set=lambda v: rate.update(lr=v), low=1e-6, high=10.0, scale="log")
    agent.state(save=lambda: dict(state, **rate), load=lambda s: (state.update(w=s["w"]), rate.update(lr=s["lr"])))
    rng = random.Random(0)
    for step in agent.steps(100_000):
        state["w"] *= 0.9999
        agent.log(loss=2.0 + state["w"] + 0.01 * rng.gauss(0, 1), grad_norm=1.0 + 0.05 * rng.gauss(0, 1))
        time.sleep(0.002)
"""


def test_a_plain_script_is_guarded_by_itself_and_can_be_steered_from_another_terminal(sitter, script, start):
    training = start(sys.executable, "-u", str(script(PLAIN)))
    line = training.stdout.readline()
    assert line.startswith("sitter: run ")
    assert "guard on" in line
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 50)

    halved = sitter("set", "lr=0.5x")
    assert halved.returncode == 0, halved.stderr + halved.stdout
    status = sitter.until(lambda s: s["knobs"]["lr"]["scale"] == 0.5)
    assert abs(status["knobs"]["lr"]["effective"] - 0.05) < 1e-12

    refused = sitter("set", "lr=1e9")
    assert refused.returncode == 1
    assert "10" in refused.stderr

    assert sitter("note", "looks", "well").returncode == 0
    assert sitter("checkpoint").returncode == 0
    assert sitter.until(lambda s: s["checkpoints"])["checkpoints"][0]["verified"]

    sitter.until(lambda s: s["step"] > 300)
    back = sitter("rollback")
    assert back.returncode == 0, back.stderr + back.stdout
    assert sitter.until(lambda s: s["branch"] == 1)["step"] > 0

    assert sitter("pause").returncode == 0
    step = sitter.until(lambda s: s["state"] == "paused")["step"]
    assert sitter("unpause").returncode == 0
    sitter.until(lambda s: s["state"] == "running" and s["step"] > step)

    assert sitter("stop").returncode == 0
    assert training.wait(100) == 0
    ended = sitter.until(lambda s: s["state"] == "stopped")
    assert ended["agent"]["dropped"] == 0

    book = sitter.lines("logbook")
    told = [(e["kind"], e["action"], e["status"]) for e in book]
    assert ("outcome", "set lr=0.5x", "applied") in told
    assert ("outcome", "set lr=1e+09", "rejected") in told
    assert ("outcome", "rollback", "applied") in told
    assert any(e["kind"] == "note" and e["detail"] == "looks well" for e in book)


def test_sitter_run_keeps_output_and_exit_code(sitter, script):
    path = script(PLAIN.replace("100_000", "300") + "\n    print('all done')\n    raise SystemExit(7)\n")
    done = sitter("run", "--no-ui", "--name", "short", "--", sys.executable, str(path))
    assert "all done" in done.stdout
    assert done.returncode == 7
    status = sitter.until(lambda s: s["state"] == "crashed")
    assert status["run"] == "short"
    assert status["exit"]["code"] == 7
