"""What is not resumed since it lives."""

from sitter.cli.resume import _alive
from sitter.paths import look
from sitter_wire import rundir
from tests.unit.sitter.conftest import held_elsewhere


def test_what_lives_in_another_container_is_not_started_once_more(tmp_path):
    """It has no pid here, and so is not found by it."""
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    with held_elsewhere(run.agent_lock):
        assert _alive(look(run)) == "is alive, on another machine or in another container: ask there"
    assert _alive(look(run)) == ""
