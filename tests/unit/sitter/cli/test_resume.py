"""What is not resumed: what lives elsewhere, and what is not to be seen."""

import json
import time

import pytest

from sitter.cli.resume import _alive, _all, _resume
from sitter.errors import RunError
from sitter.paths import look, register
from sitter_agent.recorder import Recorder
from sitter_wire import rundir
from sitter_wire.events import GoodBye, SessionStart
from tests.unit.sitter.conftest import held_elsewhere


def test_what_lives_in_another_container_is_not_started_once_more(tmp_path):
    """It has no pid here, and so is not found by it."""
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    with held_elsewhere(run.agent_lock):
        assert _alive(look(run)) == "is alive, and is on another machine, or in another container: ask there"
    assert _alive(look(run)) == ""


def test_what_lies_on_a_disk_that_is_not_there_is_named_and_nobody_told_that_there_is_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    run = rundir.create(tmp_path / "disk" / "sitter-runs", "t", command=["x"], supervised=True, sockets="", version="0")
    register(run)
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    (tmp_path / "disk").mkdir()
    assert _all() == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"t: {run.path} is not to be seen: if its disk is not mounted yet, ask again then" in said.err


@pytest.mark.parametrize(("step", "goodbye", "says"), [
    (99, "total", "has finished at step 99; there is nothing"), (40, "left early", "start it anew"), (40, None, "start it anew"),
    (None, None, "start it anew"),
])  # fmt: skip
def test_what_ended_well_is_over_only_where_it_came_to_its_end(tmp_path, step, goodbye, says):
    """Killed behind a shell script that ends well all the same, or with its history damaged: its checkpoints are there to go on from."""
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    if step is not None:
        recorder = Recorder(run.recorder, "20260101T000000-aaaaaaaa")
        recorder.event(SessionStart(pid=7, host="h", branch=0, argv=[], versions={}, total=100), 0, 0)
        recorder.log(step, 0, {"loss": 1.0})
        if goodbye:
            recorder.event(GoodBye(how=goodbye), step, 0)
        recorder.close()
    run.exit_json.write_text(json.dumps({"code": 0, "signal": None, "time": time.time() + 1.0, "started": time.time()}))
    with pytest.raises(RunError, match=says):
        _resume(look(run))
