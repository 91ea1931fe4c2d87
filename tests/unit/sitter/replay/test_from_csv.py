"""What a CSV may look like, and what is said of one that cannot be read."""

import gzip
import math
import os
import threading
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
        ("when,loss\n1,2\n", "has no column `step`; found: when, loss"),
        ('[[1, 2]]', 'expected records such as {"step": 10, "loss": 2.5} in a list, or one a line'),
        ('{"step": 10,\n"loss"', "as JSON: "),
        pytest.param("[" * 5_000, "as JSON: ", id="brackets without end"),
        ("Step,a - loss,a - loss__MIN,b - loss,b - loss__MIN\n1,2,2,3,3\n", "holds 2 runs (a, b): keep the columns of one of them"),
        ("step\n1\n", "has nothing beside `step`"),
        ("step,loss\n1,2\n2,high\n", "line 3: expected numbers, or nothing where nothing was logged; found '2,high'"),
        ("step,loss\n1\n", "line 2: expected numbers"),
        ("# of tuesday\n\nstep,loss\n# began\n1,2\n2,high\n", "line 6: expected numbers"),
        ('  {"step": 1, "loss": 2}\n  {"step": 2, "loss": "high"}\n', "line 2: expected numbers"),
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


ROWS = "step,train_loss\n1,2.5\n2,2.25\n"


@pytest.mark.parametrize(
    "held",
    [
        ROWS.encode(), gzip.compress(ROWS.encode(), mtime=0), b"\xef\xbb\xbf" + ROWS.encode(), ROWS.replace(",", ";").encode(),
        ROWS.replace(",", "\t").encode(), ROWS.replace("\n", "\r\n").encode(), ROWS.replace(",", " , ").encode(),
        ROWS.replace("step", "Step").encode(), ROWS.replace("step", "_step").encode(),
        b"step,train_loss,when,lr\n1,2.5,noon, \n2,2.25,one,\n",
    ],
)  # fmt: skip
def test_the_same_table_in_other_clothes(tmp_path, held):
    (tmp_path / "a.csv").write_bytes(held)
    said = []
    items = list(from_csv(tmp_path / "a.csv", said.append).items)
    assert [(s.step, s.values) for s in items] == [(1, {"loss": 2.5}), (2, {"loss": 2.25})]
    assert said == (["column when holds no numbers ('noon'): it is left out"] if b"noon" in held else [])


def test_it_may_come_by_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(ROWS,))
    writer.start()
    assert [s.step for s in from_csv(path).items] == [1, 2]
    writer.join()


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (ROWS.encode() + b"3," + b"2" * 200_000, "beyond line 4: field larger than field limit"),
        (ROWS.encode() + b"\n" * 10_000 + b"3,\xff", "codec can't decode"),
        (ROWS.encode() + b"3,high\n", "line 4: expected numbers"),
        (gzip.compress((ROWS + "3,2\n" * 1000).encode(), mtime=0)[:-20], "ended before the end-of-stream marker"),
    ],
)
def test_a_line_that_cannot_be_read_is_said(tmp_path, held, says):
    (tmp_path / "a.csv").write_bytes(held)
    with pytest.raises(UsageError, match=says):
        list(from_csv(tmp_path / "a.csv").items)


def test_a_step_that_goes_back_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("step,loss\n1,2\n2,2\n1,2\n2,2\n")
    said = []
    assert [s.branch for s in from_csv(tmp_path / "a.csv", said.append).items] == [0, 0, 1, 1]
    assert said[0].endswith("the step goes back 1 time, each taken for a run that went on from there")


@pytest.mark.parametrize(
    ("held", "values", "said"),
    [
        ("Wall time,Step,Value\n1.5,7,2.5\n", {"loss": 2.5}, ["column Value is taken for the loss"]),
        (
            '"Step","lion - train/loss","lion - train/loss__MIN","lion - train/loss__MAX","lion - _step"\n"7","2.5","2","3",7\n',
            {"loss": 2.5}, [],
        ),
        (
            "epoch,step,train_loss_step,lr-AdamW,train_loss_epoch\n0,7,2.5,0.1,\n",
            {"epoch": 0.0, "loss": 2.5, "lr": 0.1, "lr_scheduled": 0.1}, ["train_loss_step is taken for loss", "lr-AdamW is taken for lr"],
        ),
        ("step,loss,loss\n7,2.5,3\n", {"loss": 2.5}, ["column loss stands in it more than once: the first is taken"]),
        ("epoch,accuracy,loss\n7,.5,2.5\n", {"accuracy": 0.5, "loss": 2.5}, ["column epoch is taken for the step"]),
        ("Iteration;Train Loss;LR\n7;2,5;NA\n", {"loss": 2.5}, ["column Iteration is taken for the step"]),
        ("# of tuesday\nstep,loss,val_loss\n# began\n7,2.5,None\n", {"loss": 2.5}, []),
        ("step,bleu\n7,2.5\n", {"bleu": 2.5}, ["none of its columns is one that sitter's own rules know, such as loss, val_loss"]),
        ("step,reward\n7,2.5\n", {"reward": 2.5}, []),
        ("step,d_loss\n7,2.5\n", {"d_loss": 2.5}, []),
        ("step,grad_norm.head\n7,2.5\n", {"grad_norm.head": 2.5}, []),
        ('{"log_history": [{"step": 7, "loss": 2.5, "how": [1]}], "epoch": 3}', {"loss": 2.5}, []),
        ('[{"step": 7, "learning_rate": NaN, "loss": 2.5}]', {"loss": 2.5, "lr": math.nan, "lr_scheduled": math.nan}, ["taken for lr"]),
        ('{"step": 7,\n "loss": 2.5}', {"loss": 2.5}, []),
    ],
)  # fmt: skip
def test_as_other_programs_write_it(tmp_path, held, values, said):
    (tmp_path / "a.csv").write_text(held)
    told = []
    (sample,) = from_csv(tmp_path / "a.csv", told.append).items
    assert (sample.step, sample.values) == (7, pytest.approx(values, nan_ok=True))
    assert len(told) == len(said)
    assert all(text in line for text, line in zip(said, told, strict=True))


def test_records_a_line_and_columns_that_come_later(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.5}\n\n{"step": 2, "eval_loss": 2.75}\n')
    assert [(s.step, s.values) for s in from_csv(tmp_path / "log.jsonl").items] == [(1, {"loss": 2.5}), (2, {"val_loss": 2.75})]


def test_a_step_of_a_thousand_has_a_comma_in_a_spreadsheet(tmp_path):
    (tmp_path / "a.csv").write_text('step;loss\n999;2,5\n1,000;2,25\n')
    assert [(s.step, s.values["loss"]) for s in from_csv(tmp_path / "a.csv").items] == [(999, 2.5), (1000, 2.25)]
