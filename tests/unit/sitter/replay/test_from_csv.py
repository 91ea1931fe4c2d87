"""What a CSV may look like, and what is said of one that cannot be read."""

import math
from pathlib import Path

import pytest

from sitter.errors import UsageError
from sitter.replay.from_csv import from_csv
from sitter.rules.view import Sample


def samples(path: Path, text: str) -> list[Sample]:
    path.write_text(text, encoding="utf-8")
    return [item for item in from_csv(path).items if isinstance(item, Sample)]


def test_names_are_those_that_would_have_been_recorded_and_empty_is_not_logged(tmp_path: Path) -> None:
    told = samples(tmp_path / "x.csv", "step,train_loss,val_loss,lr,grad_norm,mine\n0,2.5,,1e-3,0.5,7\n10,nan,3.5,,inf,\n20,,,,,\n")
    assert [(s.step, s.branch) for s in told] == [(0, 0), (10, 0)]  # nothing was logged at 20
    assert told[0].values == {"loss": 2.5, "lr": 1e-3, "lr_scheduled": 1e-3, "grad_norm": 0.5, "mine": 7.0}
    assert math.isnan(told[1].values["loss"])
    assert math.isinf(told[1].values["grad_norm"])
    assert set(told[1].values) == {"loss", "val_loss", "grad_norm"}


def test_without_times_a_step_is_a_second_and_with_them_they_are_the_datas_own(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    assert [s.time for s in samples(path, "step,loss\n0,1\n100,1\n")] == [0.0, 100.0]
    assert not from_csv(path).timed
    assert [s.time for s in samples(path, "step,wall_s,loss\n0,5.5,1\n100,7.5,1\n")] == [5.5, 7.5]
    assert from_csv(path).timed
    told = samples(path, "step,branch,time,loss\n0,0,2026-11-21T10:00:00+01:00,1\n5,1,2026-11-21T10:00:30+01:00,1\n")
    assert told[1].time - told[0].time == 30.0
    assert [s.branch for s in told] == [0, 1]


def test_a_run_that_began_again_from_an_earlier_step_is_on_another_branch(tmp_path: Path) -> None:
    told = samples(tmp_path / "x.csv", "step,loss\n0,1\n10,1\n5,1\n6,1\n")
    assert [(s.step, s.branch, s.time) for s in told] == [(0, 0, 0.0), (10, 0, 10.0), (5, 1, 10.0), (6, 1, 11.0)]


def test_where_two_columns_mean_the_same_the_canonical_one_keeps_its_name(tmp_path: Path) -> None:
    (told,) = samples(tmp_path / "x.csv", "step,loss,train_loss,lr,lr_scheduled\n0,1,2,3,4\n")
    assert told.values == {"loss": 1.0, "train_loss": 2.0, "lr": 3.0, "lr_scheduled": 4.0}


def test_what_spreadsheets_do_to_a_file(tmp_path: Path) -> None:
    (told,) = samples(tmp_path / "x.csv", '\ufeffstep, loss\r\n"10","2.5"\r\n\r\n')
    assert (told.step, told.values) == (10, {"loss": 2.5})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column `step`; found: nothing"),
        ("epoch,loss\n1,2\n", "has no column `step`; found: epoch, loss"),
        ("step\n1\n", "has nothing beside `step`"),
        ("step,loss\n1,2\n2,high\n", "line 3: expected numbers, or nothing where nothing was logged; found '2,high'"),
        ("step,loss\n1\n", "line 2: expected numbers"),
        ("step,loss\nnan,2\n", "line 2: expected numbers"),
        ("step,loss\n,2\n", "line 2: expected numbers"),
        ("step,time,loss\n1,yesterday,2\n", "line 2: expected numbers"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        samples(tmp_path / "x.csv", text)
    assert says in str(refused.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        from_csv(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"step,loss\xff\xfe\n")
    with pytest.raises(UsageError, match="cannot read"):
        from_csv(tmp_path / "x.csv")
