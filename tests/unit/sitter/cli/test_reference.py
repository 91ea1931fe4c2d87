"""``--ref``: another run's curves, from a file as other programs write it."""

import pytest

from sitter.cli.reference import COLUMNS, reference_curves
from sitter.errors import UsageError


def test_a_file_is_read_as_replay_reads_it(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"step": {s}, "loss": {s}.5{f", {chr(34)}eval_loss{chr(34)}: 3" * (s % 100 == 0)}}}\n' for s in range(1000)))
    loss, val = reference_curves(str(path))
    assert (loss.signal, val.signal, len(val.x)) == ("loss", "val_loss", 10)
    assert len(loss.x) <= COLUMNS
    assert (loss.low[0], loss.high[-1], loss.x[-1]) == (0.5, 999.5, 999.0)


@pytest.mark.parametrize(
    ("held", "says"), [("step,reward\n1,2\n", "found neither"), ("when,loss\n1,2\n", "no column `step`"), ("step,loss\n1,high\n", "line 2")]
)
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path, held, says):
    (tmp_path / "a.csv").write_text(held)
    with pytest.raises(UsageError, match=rf"--ref.*{says}"):
        reference_curves(str(tmp_path / "a.csv"))
