"""The demo's three curves: what is kept of a run with rollbacks, and how it is drawn."""

import json
import math

import pytest

from sitter.cli.demo_screen import screen
from sitter.demo.curves import Trained, ceiling, picture
from sitter.errors import SitterError
from sitter.model import Incident


def trained(step, loss, died=None, val=1.5) -> Trained:
    return Trained(
        final_val_loss=val, died_at_step=died, seconds=10.0, steps_per_s=100.0, log_us_p50=5.0, step=list(step), loss=list(loss)
    )


def falling(n):
    return [5.5 * (1 + i / 20) ** -0.4 for i in range(n)]


THREE = {
    "clean": trained(range(400), falling(400)),
    "unattended": trained(range(300), falling(140) + [90.0] * 10 + [3.2] * 50 + [math.nan] * 100, died=200, val=math.nan),
    "babysat": trained([*range(150), *range(130, 400)], falling(140) + [90.0] * 10 + falling(400)[130:]),
}
INCIDENTS = [
    Incident(id=1, rule="guard", branch=0, onset=141, began=0.0, text="loss 40 × its usual level at step 141", steps_lost=20)
]


def text(lines):
    return ["".join(part for part, _ in line) for line in lines]


def test_the_line_of_a_run_is_what_its_rollbacks_left():
    steps, losses, backs = trained([0, 1, 2, 3, 2, 3, 4, 1, 2], [9, 8, 7, 99, 6, 5, 4, 3, 2]).line()
    assert steps == [0, 1, 2]
    assert losses == [9, 3, 2]
    assert backs == [(3, 2), (4, 1)]


def test_read_what_the_script_wrote(tmp_path):
    file = tmp_path / "a.json"
    values = {
        "final_val_loss": "nan", "died_at_step": 1, "seconds": 1.0, "steps_per_s": 2.0, "log_us_p50": None,
        "step": [0, 1], "loss": [5.5, "nan"],
    }  # fmt: skip
    file.write_text(json.dumps(values))
    read = Trained.read(file)
    assert math.isnan(read.final_val_loss)
    assert math.isnan(read.loss[1])


@pytest.mark.parametrize("content", [None, "", "{}", '{"final_val_loss": "x"}', "[1]"])
def test_a_training_that_did_not_end_is_one_sentence(tmp_path, content):
    file = tmp_path / "a.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SitterError, match=r"expected .*a\.json from the demo's training"):
        Trained.read(file)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 14), (120, 28)])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_drawing_fits_and_says_how_each_ended(width, height, ascii_only):
    lines = text(screen(THREE, INCIDENTS, width, height, ascii=ascii_only))
    assert len(lines) == height
    assert max(map(len, lines)) <= width or len(lines[0]) <= 74
    assert "unattended died at step 200" in lines[0]
    assert "with sitter 1.500" in lines[0]
    assert lines[-1].strip() == ("!" if ascii_only else "▲")
    assert all(line.isascii() for line in lines) is ascii_only
    assert ascii_only or sum("✖" in line for line in lines) == 1


def test_the_cross_stands_where_the_run_died():
    lines = text(screen(THREE, INCIDENTS, 102, 24))
    (row,) = (line for line in lines if "✖" in line)
    assert row.index("✖") == pytest.approx(2 + 200 / 399 * 99, abs=1.5)


def test_what_blew_up_does_not_flatten_the_rest():
    assert ceiling(THREE) == pytest.approx(5.5 * 1.15)
    rows = [i for i, line in enumerate(screen(THREE, INCIDENTS, 100, 24)) if any(s == "loss" for _, s in line[2:])]
    assert max(rows) - min(rows) > 12


def test_the_picture_shows_all_three_and_the_incident(tmp_path):
    path = tmp_path / "a.svg"
    picture(THREE, INCIDENTS, path)
    svg = path.read_text()
    for word in ("troubles, alone", "troubles, with sitter", "died at step 200", "40 × its usual level", "20 steps lost"):
        assert word in svg


def test_a_run_that_died_at_once_is_drawn_too(tmp_path):
    dead = {**THREE, "babysat": trained([0], [math.nan], died=0, val=math.nan)}
    assert len(screen(dead, [], 80, 20)) == 20
    picture(dead, [], tmp_path / "a.png")
