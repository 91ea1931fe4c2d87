"""``sitter report`` of a run that really ran."""

import sys

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
    sitter.until(lambda s: (s["step"] or 0) > 300, timeout=60.0)
    assert sitter("drop", "3").returncode == 0
    (tmp_path / "bad").touch()
    sitter.until(lambda s: s["branch"] == 1 and s["incidents"] == {"open": 0, "total": 1}, timeout=60.0)
    (tmp_path / "enough").touch()
    sitter.until(lambda s: s["state"] not in ("running", "starting"), timeout=60.0)
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
