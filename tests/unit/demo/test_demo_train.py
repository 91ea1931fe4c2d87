"""The demo's training script by itself: what it plants, what it remembers, and how it ends without anybody watching."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from sitter_demo.model import Adam, Batch, ByteModel, Shape
from sitter_demo.plants import Plants
from sitter_demo.train import Diary, Training, main
from sitter_wire import drill

CLEAN = Batch(np.ones((2, 4), np.uint8), np.ones(2, np.uint8))


def optimizer() -> Adam:
    return Adam(ByteModel(0, Shape(context=4, embedding=3, hidden=8)), rate=1e-3, total=10, warmup=1)


def test_plants_are_counted_in_turns_and_come_once():
    plants = Plants.parse("nan@3:2,lr@5")
    adam = optimizer()
    gains = [plants.spoil(CLEAN, adam).gain for _ in range(10)]
    assert [i for i, g in enumerate(gains) if math.isnan(g)] == [3, 4]
    assert adam.rate == pytest.approx(0.1)


def test_a_plant_that_waits_to_be_told_comes_then_and_not_again_in_a_new_process(tmp_path):
    for _ in range(2):
        plants = Plants.parse("spike@told:2")
        plants.place = tmp_path
        adam = optimizer()
        gains = [plants.spoil(CLEAN, adam, step).gain for step in range(3)]
        told = drill.told(tmp_path, drill.PLANTED)
        drill.tell(tmp_path, drill.GO)
        gains += [plants.spoil(CLEAN, adam, step).gain for step in range(3, 8)]
        expected = [3, 4] if told is None else []
        assert [i for i, g in enumerate(gains) if g != 1.0] == expected
        assert drill.told(tmp_path, drill.PLANTED)["step"] == 3


def test_a_gradient_explodes_for_as_long_as_planted():
    plants, adam, gradient = Plants.parse("grad@1:2"), optimizer(), np.ones(3, np.float32)
    factors = []
    for _ in range(4):
        plants.spoil(CLEAN, adam)
        factors.append(plants.explode(gradient))
    assert factors == [1.0, 1e4, 1e4, 1.0]
    assert gradient.tolist() == [1e8] * 3


@pytest.mark.parametrize("text", ["nan@3", "lr", "lr@x", "fire@3", "nan@1:2;lr@3"])
def test_a_plant_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"expected nan@STEP:LEN, .* or lr@STEP"):
        Plants.parse(text)


def test_going_back_to_a_saved_state_also_puts_the_rate_back():
    training = Training(steps=10, seed=0)
    saved = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in training.save().items()}
    training.model.loss_and_grad(training.data.draw())
    training.optimizer.step()
    training.optimizer.rate *= 100
    assert not np.array_equal(training.model.flat, saved["flat"])
    training.load(saved)
    assert training.optimizer.rate == saved["rate"]
    assert training.optimizer.steps == 0
    np.testing.assert_array_equal(training.model.flat, saved["flat"])
    np.testing.assert_array_equal(training.optimizer.square, saved["square"])
    assert np.shares_memory(training.model.parameters["w1"], training.model.flat)


@pytest.mark.parametrize(
    ("losses", "died"),
    [([2, 1], None), ([2, math.nan, 1], None), ([2, math.nan, 1, math.inf, math.nan], 3), ([math.nan], 0), ([], None)],
)
def test_where_it_died(losses, died):
    assert Diary(step=list(range(len(losses))), loss=losses).died_at() == died


def test_the_same_seed_gives_the_same_run(tmp_path):
    files = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        assert main(["--plain", "--steps", "30", "--seed", seed, "--out", str(file)]) == 0
    a, b, c = (json.loads(f.read_text()) for f in files)
    assert a["loss"] == b["loss"] != c["loss"]
    assert a["final_val_loss"] == b["final_val_loss"] < 5
    assert a["step"] == list(range(30))
    assert a["died_at_step"] is None


def test_unattended_a_burst_of_nan_is_the_end(tmp_path):
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "sitter_demo", "--plain", "--steps", "40", "--plant", "nan@20:3", "--out", str(out)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    result = json.loads(out.read_text())
    assert done.returncode == 1, done.stderr
    assert result["final_val_loss"] == "nan"
    assert result["died_at_step"] == 20
    assert result["loss"][19:22] == [result["loss"][19], "nan", "nan"]


def test_unattended_a_rate_times_100_is_never_made_good(tmp_path):
    ends = {}
    for plant in ("", "lr@100"):
        out = tmp_path / f"{plant}.json"
        assert main(["--plain", "--steps", "200", "--plant", plant, "--out", str(out)]) == 0
        ends[plant] = json.loads(out.read_text())["final_val_loss"]
    assert ends["lr@100"] > ends[""] + 0.5


def test_plain_imports_nothing_of_sitter():
    code = (
        "import sys; from sitter_demo.train import main; main(['--plain', '--steps', '2']); "
        "print([m for m in sys.modules if m.split('.')[0] in ('sitter', 'sitter_agent', 'sitter_wire', 'zmq')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
