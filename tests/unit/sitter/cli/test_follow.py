"""What is said in the foreground where nothing more comes."""

import pytest

from sitter.cli import follow as following
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
