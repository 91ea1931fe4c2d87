"""What is said in the foreground where nothing more comes."""

import pytest

from sitter.cli import follow as following
from sitter.cli.run import how_it_was_left
from sitter_wire import rundir


class Quiet:
    """Nobody interrupts; at the first look something happens to the run."""

    count = 0

    def __init__(self, happens):
        self._happens = happens

    @property
    def notices(self):
        self._happens()
        return []

    def close(self):
        """As it was before."""


@pytest.mark.parametrize(("moved", "says"), [(False, "nobody saw how it ended"), (True, "is there no more: was it moved?")])
def test_a_run_that_was_moved_is_not_said_to_be_gone(tmp_path, monkeypatch, capsys, moved, says):
    monkeypatch.setattr(following, "ALONE_S", 0.0)
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    run.train_log.write_text("the last line\n")
    away = [run.path] if moved else []
    assert following.follow(run, Quiet(lambda: away and away.pop().rename(tmp_path / "moved"))) == 1
    said = capsys.readouterr()
    assert "the last line" in said.out
    assert says in said.err


@pytest.mark.parametrize(("agent", "setting", "told"), [(False, "", True), (True, "", False), (False, "off", False)])
def test_whoever_was_not_looked_after_is_told_so(tmp_path, monkeypatch, capsys, agent, setting, told):
    monkeypatch.setenv("SITTER", setting)
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    run.train_log.write_text("epoch 1\n")
    run.exit_json.write_text('{"code": 0, "signal": null}')
    if agent:
        run.agent_lock.touch()
    assert following.follow(run, Quiet(lambda: None)) == 0
    assert ("t: no agent began in it, so nothing was recorded" in capsys.readouterr().err) is told


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("", "t goes on; "),
        ('{"code": 0, "signal": null}', "t is over (exit code 0); "),
        ('{"code": null, "signal": 9}', "t is over (ended by SIGKILL); "),
    ],
)
def test_a_screen_that_is_left_says_whether_the_training_goes_on(tmp_path, end, says):
    run = rundir.create(tmp_path, "t", command=["x"], supervised=True, sockets="", version="0")
    if end:
        run.exit_json.write_text(end)
    assert says in how_it_was_left(run)
