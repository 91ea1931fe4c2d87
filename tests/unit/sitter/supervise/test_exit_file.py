"""How a training ended is written down, wherever its run directory is by then."""

import json
from pathlib import Path

import pytest

from sitter.supervise.exit_file import EXIT, ExitFile


@pytest.mark.parametrize("another", [False, True])
def test_it_is_where_the_run_directory_is_by_now(tmp_path: Path, another: bool) -> None:
    run, elsewhere = tmp_path / "x", tmp_path / "elsewhere"
    run.mkdir()
    ended = ExitFile(run)
    run.rename(elsewhere)
    if another:  # of the same name, whose training lives
        run.mkdir()
        ExitFile(run)
    ended.write({"code": 7})
    assert json.loads((elsewhere / EXIT).read_text()) == {"code": 7}
    assert not (run / EXIT).exists()


def test_that_of_an_earlier_training_is_gone_before_this_one_has_ended(tmp_path: Path) -> None:
    (tmp_path / EXIT).write_text("{}")
    ended = ExitFile(tmp_path)
    assert not (tmp_path / EXIT).exists()
    ended.write({"code": 0})
    assert json.loads((tmp_path / EXIT).read_text()) == {"code": 0}
