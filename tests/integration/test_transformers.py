"""Hugging Face's Trainer under our callback: every step is seen, everything can be steered, and nothing is changed unasked."""

import csv
import io
import math
import sys
from pathlib import Path
from typing import Any

import pytest

import sitter_agent
from sitter_wire.events import Remark, SnapshotTaken
from sitter_wire.records import Happening, Point, read_segment_header, scan_segment
from tests.integration.conftest import rolled_back_and_stopped

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.xdist_group("transformers"),  # one worker imports it
]


@pytest.fixture(scope="module")
def hf() -> Any:
    """The training, and the framework with it."""
    from tests.integration import under_transformers

    return under_transformers


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def records(where: Path) -> list[Any]:
    found = []
    for path in sorted(where.glob("sitter-runs/*/recorder/*/*.rec")):
        data = path.read_bytes()
        if any(data[:8]):
            found += [r for r in scan_segment(data, read_segment_header(data)) if r is not None]
    return sorted(found, key=lambda r: r.seq)


def values(where: Path, name: str) -> dict[int, float]:
    return {r.step: r.values[r.names.index(name)] for r in records(where) if isinstance(r, Point) and name in r.names}


def test_the_loss_of_every_step_is_seen_as_it_was(hf: Any, tmp_path: Path) -> None:
    trainer = hf.train([hf.SitterCallback(daemon=False, goal="val_loss")], bad=None)
    loss = values(tmp_path, "loss")
    pairs = [trainer.losses[2 * i] + trainer.losses[2 * i + 1] for i in range(8)]
    assert list(loss) == list(range(1, 9))
    assert list(loss.values()) == pytest.approx(pairs, rel=1e-6)
    layers = [f"grad_norm.{name}" for name, module in trainer.model.named_modules() if list(module.parameters(recurse=False))]
    assert layers
    for layer in layers:
        assert list(values(tmp_path, layer)) == list(values(tmp_path, layer.replace("grad_norm", "update_ratio"))) == [1, 2, 4, 8]
    assert [e["loss"] for e in trainer.state.log_history if "loss" in e] == []  # the trainer itself has said nothing
    assert values(tmp_path, "val_loss") == {
        e["step"]: pytest.approx(e["eval_loss"]) for e in trainer.state.log_history if "eval_loss" in e
    }
    assert {4, 8} == set(values(tmp_path, "val_loss"))
    assert "training_step" not in vars(trainer)
    assert "clip_grad_norm_" not in vars(trainer.accelerator)


def test_a_nan_loss_is_not_filtered_out(hf: Any, tmp_path: Path) -> None:
    hf.train([hf.SitterCallback(daemon=False)], bad=20)
    loss = values(tmp_path, "loss")
    first = next(step for step, value in loss.items() if math.isnan(value))
    assert all(math.isfinite(v) for s, v in loss.items() if s < first)
    assert all(math.isnan(v) for s, v in loss.items() if s > first)
    norm = values(tmp_path, "grad_norm")
    assert math.isnan(norm[first])


def test_the_gradient_norm_is_the_one_before_clipping(hf: Any, tmp_path: Path) -> None:
    hf.train([hf.SitterCallback(daemon=False)], max_grad_norm=1e-3)
    norm = values(tmp_path, "grad_norm")
    assert list(norm) == list(range(1, 9))
    assert min(norm.values()) > 0.01


def test_training_is_bit_for_bit_what_it_is_without_us(hf: Any) -> None:
    plain = hf.train([])
    watched = hf.train([hf.SitterCallback(daemon=False)])
    assert plain.losses == watched.losses
    for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert hf.torch.equal(a, b)


def test_a_scaled_rate_is_used_and_the_schedule_goes_its_own_way(hf: Any, tmp_path: Path) -> None:
    def halve() -> None:
        agent = sitter_agent.current()
        assert agent is not None
        assert agent._core is not None
        agent._core.knobs()["lr"].change("scale", 0.5, group=None, hold=False)

    plain = hf.train([hf.SitterCallback(daemon=False)], logging_steps=1)
    scaled = hf.train([hf.At(4, halve), hf.SitterCallback(daemon=False, name="scaled")], logging_steps=1)
    assert [e["learning_rate"] for e in plain.state.log_history if "learning_rate" in e] == [
        e["learning_rate"] for e in scaled.state.log_history if "learning_rate" in e
    ]
    run = next(tmp_path.glob("sitter-runs/scaled"))
    lr: dict[str, dict[int, float]] = {"lr": {}, "lr_scheduled": {}}
    for path in run.glob("recorder/*/*.rec"):
        data = path.read_bytes()
        for r in scan_segment(data, read_segment_header(data)) if any(data[:8]) else ():
            if isinstance(r, Point) and "lr" in r.names:
                for name in lr:
                    lr[name][r.step] = r.values[r.names.index(name)]
    assert all(lr["lr"][s] == lr["lr_scheduled"][s] * (0.5 if s > 4 else 1) for s in range(1, 9))


def test_the_first_snapshot_is_taken_before_the_first_step(hf: Any, tmp_path: Path) -> None:
    hf.train([hf.SitterCallback(daemon=False)])
    taken = [r.event.step for r in records(tmp_path) if isinstance(r, Happening) and isinstance(r.event, SnapshotTaken)]
    assert taken[0] == 0
    said = [r.event.text for r in records(tmp_path) if isinstance(r, Happening) and isinstance(r.event, Remark)]
    assert not [text for text in said if "failed" in text]


def test_a_second_training_of_the_same_trainer_is_a_new_session(hf: Any, tmp_path: Path) -> None:
    trainer = hf.train([hf.SitterCallback(daemon=False)])
    trainer.train()
    assert len({p.parent.name for p in tmp_path.glob("sitter-runs/*/recorder/*/*.rec")}) == 2


SCRIPT = """
    import torch, transformers
    from sitter_agent.frameworks.transformers import SitterCallback

    class Bytes(torch.utils.data.Dataset):
        def __len__(self):
            return 4096
        def __getitem__(self, i):
            row = (torch.arange(16) * 7 + i) % 61
            return {"input_ids": row, "labels": row}

    config = transformers.GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    trainer = transformers.Trainer(
        model=transformers.GPT2LMHeadModel(config),
        args=transformers.TrainingArguments(
            output_dir="out", max_steps=1_000_000, per_device_train_batch_size=4, learning_rate=1e-3, logging_steps=10_000,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
        ),
        train_dataset=Bytes(), callbacks=[SitterCallback(name="gpt")],
    )
    trainer.train()
    print("ended by itself at", trainer.state.global_step)
"""


def test_a_tiny_gpt_is_steered_rolled_back_and_stopped_from_another_terminal(sitter: Any, script: Any, start: Any) -> None:
    training = start(sys.executable, "-u", str(script(SCRIPT)))
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 30, timeout=250.0)  # it imports the framework first
    done = sitter("set", "lr=0.5x")
    assert done.returncode == 0, done.stderr + done.stdout
    status = sitter.until(lambda s: s["knobs"]["lr"]["scale"] == 0.5)
    assert status["total"] == 1_000_000
    assert status["watching"] == ["loss", "grad_norm"]
    assert {"grad_norm.transformer.wte", "update_ratio.transformer.h.0.mlp.c_fc"} <= status["signals"].keys()
    table = csv.DictReader(io.StringIO(sitter("export", "--format", "csv").stdout))
    looked_at = [int(row["step"]) for row in table if row["grad_norm.transformer.wte"]]
    assert looked_at[:5] == [1, 2, 4, 8, 16], "the history has them, at the steps that they are of"
    done = sitter("checkpoint")
    assert done.returncode == 0, done.stderr + done.stdout
    path = Path(sitter.until(lambda s: s["checkpoints"])["checkpoints"][0]["path"])
    import torch  # of what a user needs to look into a checkpoint: no more

    saved = torch.load(path, weights_only=True)
    assert "transformer.wte.weight" in saved["model"]
    sitter.until(lambda s: s["step"] > 100)
    rolled_back_and_stopped(sitter, training)
