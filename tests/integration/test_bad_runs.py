"""A directory that is no run, or one from a newer version: told, and left as it was. Two daemons, two live runs."""

import os
import re
import sqlite3
import subprocess
import sys

import pytest

from sitter_wire.places import RunDir

ENDED = """
    import sitter_agent
    agent = sitter_agent.start(name="short")
    for step in agent.steps(30):
        agent.log(loss=1.0)
"""

LIVING = """
    import sitter_agent, sys, time
    agent = sitter_agent.start(name=sys.argv[1])
    rate, weight = {"lr": 0.1}, {"w": 1.0}
    agent.state(save=lambda: dict(weight), load=weight.update)
    agent.knob("lr", get=lambda: rate["lr"], set=lambda v: rate.update(lr=v), low=1e-3, high=1.0, scale="log")
    for step in agent.steps(100_000):
        agent.log(loss=1.0 + 0.9999 ** step)  # of one that stands still the plateau is proposed, after a thousand
        time.sleep(0.005)
"""


@pytest.fixture
def ended(sitter, script, tmp_path):
    """The directory of a run that was recorded and not yet read."""
    subprocess.run([sys.executable, str(script(ENDED))], cwd=tmp_path, env={**os.environ, "SITTER": "off"}, check=True, capture_output=True)
    return RunDir(tmp_path / "sitter-runs" / "short")


def contents(run: RunDir) -> dict[str, bytes]:
    """Every file, but the lock files that a look may leave behind."""
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.path.rglob("*")) if p.is_file() and p.suffix != ".lock"}


def test_a_directory_that_is_no_run_is_left_alone(sitter, tmp_path):
    stranger = tmp_path / "photos"
    stranger.mkdir()
    (stranger / "a.jpg").write_bytes(b"picture")
    for words in (["status"], ["logbook"], ["days"], ["set", "lr=0.5x"], ["resume"], ["attach"], ["export", "--format", "csv"]):
        assert "is not a run directory" in sitter.refused(*words, "-r", str(stranger))
    assert "no run named 'nowhere'" in sitter.refused("status", "-r", "nowhere")
    assert "no run found" in sitter.refused("status")
    assert [p.name for p in stranger.iterdir()] == ["a.jpg"]


def test_a_damaged_run_toml_is_told_and_kept(sitter, ended):
    for text, told in (("name = ", "cannot read"), ("created = 3\n", "does not say what a run needs")):
        ended.run_toml.write_text(text)
        before = contents(ended)
        assert told in sitter.refused("status", "-r", str(ended.path))
        assert contents(ended) == before


def test_a_run_directory_of_a_newer_version_is_told_and_left_as_it_is(sitter, ended):
    ended.run_toml.write_text(ended.run_toml.read_text().replace("format = 1", "format = 2"))
    before = contents(ended)
    for words in (["status"], ["logbook"], ["set", "lr=0.5x"], ["resume"], ["attach"], ["export", "--format", "csv"]):
        assert "newer sitter (format 2, this one reads 1): upgrade" in sitter.refused(*words, "-r", str(ended.path))
    daemon = subprocess.run([sys.executable, "-m", "sitter.daemon", str(ended.path)], capture_output=True, text=True, timeout=100)
    assert daemon.returncode == 1
    assert "newer sitter" in daemon.stderr
    assert contents(ended) == before


def test_a_history_of_a_newer_version_is_told_and_left_as_it_is(sitter, ended):
    assert sitter.status()["step"] == 30
    with sqlite3.connect(ended.history) as history:
        history.execute("PRAGMA user_version = 99")
    history.close()
    before = contents(ended)
    for words in (["status"], ["logbook"], ["days"], ["attach"], ["export", "--format", "csv"]):
        assert "newer sitter (version 99" in sitter.refused(*words)
    assert contents(ended) == before


def test_a_history_that_is_none_is_told_and_kept(sitter, ended):
    ended.history.write_bytes(b"not a database" * 100)
    before = contents(ended)
    assert "damaged" in sitter.refused("status")
    assert contents(ended) == before
    with sqlite3.connect(ended.path / "other.db") as other:
        other.execute("CREATE TABLE photos (id INTEGER)")
    other.close()
    (ended.path / "other.db").replace(ended.history)
    assert "another program" in sitter.refused("status")


def test_a_segment_of_a_newer_layout_is_told_and_kept(sitter, ended):
    (segment,) = [p for p in ended.recorder.rglob("*.rec") if p.read_bytes()[:8] == b"SITREC1\n"]
    data = segment.read_bytes()
    segment.write_bytes(data[:8] + (2).to_bytes(8, "little") + data[16:])
    before = segment.read_bytes()
    done = sitter("status")
    assert done.returncode == 0
    assert "layout 2" in done.stdout, "what cannot be read is not passed over in silence"
    assert "Traceback" not in done.stderr
    assert segment.read_bytes() == before
    segment.write_bytes(data)  # the newer version is gone: all of it is read after all
    assert sitter.status()["step"] == 30


def test_a_second_daemon_is_refused_and_a_second_agent_stays_silent(sitter, script, start, tmp_path):
    training = start(sys.executable, "-u", str(script(LIVING)), "one")
    assert "guard on" in training.stdout.readline()
    first = sitter.until(lambda s: s["state"] == "running")["daemon"]["pid"]
    run = tmp_path / "sitter-runs" / "one"
    second = subprocess.run([sys.executable, "-m", "sitter.daemon", str(run)], capture_output=True, text=True, timeout=100)
    assert second.returncode == 3
    assert second.stderr.strip() == f"sitter: another daemon (process {first}) has the run one"
    other = start(sys.executable, "-u", "train.py", "two", SITTER_RUN=str(run))
    assert "recording nothing here" in other.stdout.readline()
    assert sitter.status()["daemon"]["pid"] == first
    assert sitter("note", "still well").returncode == 0


def test_what_acts_asks_which_where_two_runs_live(sitter, script, start):
    path = str(script(LIVING))
    for name in ("one", "two"):
        assert "guard on" in start(sys.executable, "-u", path, name).stdout.readline()
    lines = ("set lr=0.5x", "rollback", "checkpoint", "pause", "stop", "note hello", "mode watch", "snooze gpu_hot 1h", "notify --test")
    for line in lines:
        said = sitter.refused(*line.split(), code=2)
        assert "2 runs are live" in said
        assert "one (" in said
        assert "two (" in said
    assert sitter("status").returncode == 0
    assert sitter("set", "lr=0.5x", "-r", "two").returncode == 0
    assert sitter.until(lambda s: "lr" in s["knobs"], "-r", "one")["knobs"]["lr"]["scale"] == 1.0


def test_a_knob_that_is_not_there_or_out_of_bounds_is_rejected_with_its_bounds(sitter, script, start):
    assert "guard on" in start(sys.executable, "-u", str(script(LIVING)), "one").stdout.readline()
    sitter.until(lambda s: s["state"] == "running" and "lr" in s["knobs"])
    for words, told in {
        ("set", "lr=2"): "0.001",
        ("set", "lr=20x"): "1",
        ("set", "lr=1e-9"): "0.001",
        ("set", "learning_rate=0.1"): "known here: lr",
        ("set", "lr@head=0.1"): "head",
        ("rollback", "--to", "99,999"): "no state of step 99999",
        ("rollback", "--to", "99.5k"): "no state of step 99500",
        ("approve", "p9"): "there is no proposal 'p9'; open: none",
        ("veto", "p9"): "there is no proposal 'p9'; open: none",
        ("unpause",): "not paused",
        ("drop", "3"): "agent.loop",
    }.items():
        done = sitter(*words)
        assert done.returncode == 1, done
        (line,) = done.stderr.strip().splitlines()
        assert "rejected" in line
        assert told in line
    assert re.search(r"did you mean gpu_hot\?|rules: .*gpu_hot,", sitter.refused("snooze", "gpu_hott", "1h", code=2))
    assert "the nearest are" in sitter("rollback", "--to", "99999").stderr
    status = sitter.status()
    assert status["knobs"]["lr"] | {"note": ""} == {
        "scheduled": 0.1, "scale": 1.0, "effective": 0.1, "low": 0.001, "high": 1.0, "held": False, "note": ""
    }  # fmt: skip
    assert status["branch"] == 0
