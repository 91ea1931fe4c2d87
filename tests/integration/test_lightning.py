"""Lightning under our callback: every step is seen, everything can be steered, and nothing is changed unasked."""

import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import sitter_agent
from sitter_agent.frameworks import following
from sitter_agent.say import Once
from sitter_wire.events import LoopStart, Remark, SnapshotTaken
from sitter_wire.records import Happening, Point, read_segment_header, scan_segment
from tests.integration.conftest import rolled_back_and_stopped

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.xdist_group("lightning"),  # one worker imports it
]
CALLBACK = Path(following.__file__).with_name("lightning.py")


@pytest.fixture(scope="module")
def light() -> Any:
    """The trainings, and the framework with them."""
    from tests.integration import under_lightning

    return under_lightning


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def records(where: Path, run: str = "*") -> list[Any]:
    found = []
    for path in sorted(where.glob(f"sitter-runs/{run}/recorder/*/*.rec")):
        data = path.read_bytes()
        if any(data[:8]):
            found += [r for r in scan_segment(data, read_segment_header(data)) if r is not None]
    return sorted(found, key=lambda r: r.seq)


def values(where: Path, name: str, run: str = "*") -> dict[int, float]:
    return {r.step: r.values[r.names.index(name)] for r in records(where, run) if isinstance(r, Point) and name in r.names}


def events(where: Path, kind: type) -> list[Any]:
    return [r.event for r in records(where) if isinstance(r, Happening) and isinstance(r.event, kind)]


@pytest.mark.parametrize("returns", ["tensor", "dict"])
def test_the_loss_of_every_step_and_the_validation_are_seen(light: Any, returns: str, tmp_path: Path) -> None:
    module = light.train([light.SitterCallback(daemon=False, goal="val_loss")], light.Tiny(returns))
    assert values(tmp_path, "loss") == {i + 1: pytest.approx(v) for i, v in enumerate(module.losses)}
    assert list(values(tmp_path, "val_loss")) == [8, 16]  # not the sanity check
    assert values(tmp_path, "val/acc") == {8: 0.5, 16: 0.5}
    assert [e.total for e in events(tmp_path, LoopStart)] == [16]
    assert events(tmp_path, SnapshotTaken)[0].step == 0
    assert not [e.text for e in events(tmp_path, Remark) if "failed" in e.text]


def test_accumulated_gradients_make_one_step_with_the_mean_loss(light: Any, tmp_path: Path) -> None:
    module = light.train([light.SitterCallback(daemon=False)], accumulate_grad_batches=2, gradient_clip_val=1e-3)
    means = [(a + b) / 2 for a, b in zip(module.losses[::2], module.losses[1::2], strict=True)]
    assert values(tmp_path, "loss") == {i + 1: pytest.approx(v) for i, v in enumerate(means)}
    norm = values(tmp_path, "grad_norm")
    assert list(norm)[:3] == [1, 2, 3]
    assert min(norm.values()) > 0.01  # before clipping


def test_a_nan_loss_is_seen(light: Any, tmp_path: Path) -> None:
    light.train([light.SitterCallback(daemon=False)], light.Tiny(bad=3))
    loss = values(tmp_path, "loss")
    assert [math.isnan(v) for v in loss.values()][:5] == [False, False, False, True, True]


def test_training_is_bit_for_bit_what_it_is_without_us(light: Any) -> None:
    plain = light.train([])
    watched = light.train([light.SitterCallback(daemon=False)])
    assert plain.losses == watched.losses
    assert all(light.torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))


def test_a_scaled_rate_is_used_and_the_schedule_goes_its_own_way(light: Any, tmp_path: Path) -> None:
    def halve(trainer: Any) -> None:
        agent = sitter_agent.current()
        assert agent is not None
        assert agent._core is not None
        agent._core.knobs()["lr"].change("scale", 0.5, group=None, hold=False)

    light.train([light.At(3, halve), light.SitterCallback(daemon=False)])
    lr, scheduled = values(tmp_path, "lr"), values(tmp_path, "lr_scheduled")
    assert scheduled == {s: pytest.approx(0.01 * 0.1 ** ((s - 1) // 2)) for s in range(1, 17)}
    assert all(lr[s] == scheduled[s] * (0.5 if s > 3 else 1) for s in scheduled)


def test_two_optimizers_by_hand(light: Any, tmp_path: Path) -> None:
    light.train([light.SitterCallback(daemon=False, kind="gan")], light.Gan(), max_epochs=1, limit_val_batches=0)
    assert set(values(tmp_path, "lr").values()) == {0.1}
    assert set(values(tmp_path, "lr/1").values()) == {0.4}
    assert len(values(tmp_path, "loss")) == 8
    assert len(values(tmp_path, "grad_norm.g")) == 4, "of the steps 1, 2, 4 and 8"


SCRIPT = """
    import lightning, torch
    from torch.utils.data import DataLoader, TensorDataset
    from sitter_agent.frameworks.lightning import SitterCallback

    class Tiny(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)
        def training_step(self, batch, index):
            x, y = batch
            return (self.layer(x).squeeze(-1) - y).square().mean() + 0.1
        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    x = torch.randn(512, 4)
    trainer = lightning.Trainer(
        max_epochs=100_000, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[SitterCallback(name="light")],
    )
    trainer.fit(Tiny(), DataLoader(TensorDataset(x, x.sum(1)), batch_size=4, shuffle=True))
    print("ended by itself at", trainer.global_step)
"""


def test_it_is_steered_rolled_back_and_stopped_from_another_terminal(sitter: Any, script: Any, start: Any) -> None:
    training = start(sys.executable, "-u", str(script(SCRIPT)))
    sitter.until(lambda s: s["state"] == "running" and s["step"] > 30, timeout=250.0)  # it imports the framework first
    for words in (("set", "lr=0.5x"), ("checkpoint",)):
        done = sitter(*words)
        assert done.returncode == 0, done.stderr + done.stdout
    status = sitter.until(lambda s: s["knobs"]["lr"]["scale"] == 0.5 and s["checkpoints"])
    import torch  # of what a user needs to look into a checkpoint: no more

    assert set(torch.load(status["checkpoints"][0]["path"], weights_only=True)["model"]) == {"layer.weight", "layer.bias"}
    sitter.until(lambda s: s["step"] > 200)
    rolled_back_and_stopped(sitter, training)


class Broken:
    """Whatever is asked of it fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is not to be had")


@pytest.mark.parametrize("hook", re.findall(r"def (on_\w+)", CALLBACK.read_text()))
def test_a_callback_that_fails_says_so_and_raises_nothing(
    light: Any, hook: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_say", Once())  # which else says each but once
    callback = light.SitterCallback(name="x", daemon=False)
    callback._follow.agent = Broken()  # type: ignore[assignment]
    arguments = {"on_train_batch_end": 5, "on_before_optimizer_step": 3, "on_exception": 3}.get(hook, 2)
    getattr(callback, hook)(*[Broken()] * arguments)
    assert f"{hook} failed (RuntimeError: " in capsys.readouterr().err


def test_a_trainer_that_cannot_say_its_length_is_one_without(light: Any, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = Broken()
    unknown.max_steps = -1  # type: ignore[attr-defined]
    assert light.length_of(unknown) is None
    assert "the number of steps is not known (RuntimeError: " in capsys.readouterr().err
