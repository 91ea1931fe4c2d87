"""``sitter report`` of a run that really ran."""

import sys

STEERED = """
    import itertools, pathlib, sitter_agent, time
    rate, go, steered = {"lr": 0.1}, pathlib.Path("go"), pathlib.Path("steered")
    agent = sitter_agent.start(name="first")
    agent.knob("lr", get=lambda: rate["lr"], set=lambda v: rate.update(lr=v), low=1e-6, high=10.0, scale="log")
    for step, batch in agent.loop(itertools.count(), total=300):
        agent.log(loss=2.0, lr=rate["lr"])
        while step == 30 and not go.exists():  # until all is ordered that is to be done at later steps
            time.sleep(0.01)
        time.sleep(0.003 if step < 60 or steered.exists() else 0.5)  # it must not be over before all is done to it
"""
TRAINING = """
    import itertools, pathlib, sitter_agent, time
    weight, bad, enough = {"w": 1.0}, pathlib.Path("bad"), pathlib.Path("enough")
    agent = sitter_agent.start(name="x")
    agent.state(save=lambda: dict(weight), load=weight.update)
    for step, batch in agent.loop(itertools.count(), total=1_000_000):
        weight["w"] *= 0.9999
        if bad.exists():
            bad.unlink()
            weight["w"] = float("nan")
        agent.log(loss=2.0 + weight["w"])
        time.sleep(0.002)
        if enough.exists():
            break
"""


def test_what_was_done_to_it_stands_in_its_report(sitter, script, start, tmp_path):
    start(sys.executable, "-u", str(script(TRAINING)))
    sitter.until(lambda s: (s["step"] or 0) > 300)
    assert sitter("drop", "3").returncode == 0
    (tmp_path / "bad").touch()
    sitter.until(lambda s: s["branch"] == 1 and s["incidents"] == {"open": 0, "total": 1})
    (tmp_path / "enough").touch()
    sitter.until(lambda s: s["state"] not in ("running", "starting"))
    done = sitter("report", "-o", "out")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("# x: ")
    assert "| operator | drop 3 |" in text
    assert "| guard | rollback |" in text
    assert "steps lost" in text
    assert "since loss is nan" in text
    assert (tmp_path / "out" / "report.html").read_text().count("<figure>") >= 1
    (tmp_path / "file").touch()
    assert "choose another place with -o" in sitter.refused("report", "-o", "file/out")


def test_what_was_done_to_one_run_is_done_to_another_at_the_same_steps(sitter, script, start, tmp_path):
    path = str(script(STEERED))
    (tmp_path / "go").touch()
    start(sys.executable, "-u", path)
    sitter.until(lambda s: (s["step"] or 0) > 50, "-r", "first")
    for words in (["set", "lr=0.5x"], ["drop", "3"], ["set", "lr=0.5x"]):
        assert sitter(*words).returncode == 0
    (tmp_path / "steered").touch()
    sitter.until(lambda s: s["state"] == "finished", "-r", "first")
    assert sitter("export", "--interventions", "-o", "again.toml").returncode == 0
    assert "is right" in sitter("rules", "check", "again.toml").stdout
    (tmp_path / "go").unlink()
    words = (sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", "second", "--rules", "again.toml", "--")
    second = start(*words, sys.executable, path)

    def told(run: str, kind: str, status: str) -> list[tuple[int, str]]:
        lines = [e for e in sitter.lines("logbook", "-r", run) if e["kind"] == kind and e["status"] == status]
        return [(e["step"], e["action"]) for e in lines if e["action"].split()[0] in ("set", "drop")]

    sitter.until(lambda s: len(told("second", "command", "sent")) == 3, "-r", "second")
    (tmp_path / "go").touch()
    out, _ = second.communicate(timeout=100)
    assert second.returncode == 0, out
    assert len(told("first", "outcome", "applied")) == 3
    assert told("second", "outcome", "applied") == told("first", "outcome", "applied")
