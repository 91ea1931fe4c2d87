"""Small trainings under Lightning, as a user's script has them.

Apart from their tests, so that only who runs them imports the framework, which takes seconds, and not each worker that collects them.
"""

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sitter_agent.frameworks.lightning

SitterCallback = sitter_agent.frameworks.lightning.SitterCallback
length_of = sitter_agent.frameworks.lightning._total


class Tiny(lightning.LightningModule):
    """``returns``: what ``training_step`` gives, a tensor or a dict; ``bad``: the batch whose loss is NaN."""

    def __init__(self, returns: str = "tensor", bad: int = -1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))
        self.returns, self.bad = returns, bad
        self.losses: list[float] = []

    def training_step(self, batch: Any, index: int) -> Any:
        x, y = batch
        loss = (self.layers(x).squeeze(-1) - y).square().mean()
        if index == self.bad:
            loss = loss * math.nan
        self.losses.append(float(loss.detach()))
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss if self.returns == "tensor" else {"loss": loss, "other": 1}

    def validation_step(self, batch: Any, index: int) -> None:
        x, y = batch
        self.log("val_loss", (self.layers(x).squeeze(-1) - y).square().mean())
        self.log("val/acc", 0.5)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2), "interval": "step"}}


def rows(n: int) -> TensorDataset:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(3))
    return TensorDataset(x, x.sum(1))


def train(callbacks: list[Any], module: Any = None, **arguments: Any) -> Any:
    lightning.seed_everything(0, verbose=False)
    module = module or Tiny()
    trainer = lightning.Trainer(
        **{
            "max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "callbacks": callbacks, **arguments,
        }
    )  # fmt: skip
    trainer.fit(module, DataLoader(rows(32), batch_size=4, shuffle=True), DataLoader(rows(8), batch_size=8))
    return module


class At(Callback):
    """Does something once, after one step."""

    def __init__(self, step: int, do: Any) -> None:
        self.step, self.do = step, do

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            self.do(trainer)


class Gan(lightning.LightningModule):
    """Two optimizers by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.g, self.d = nn.Linear(4, 1), nn.Linear(4, 1)

    def training_step(self, batch: Any, index: int) -> Any:
        first, second = self.optimizers()
        for net, optimizer in ((self.g, first), (self.d, second)):
            optimizer.zero_grad()
            loss = net(batch[0]).square().mean()
            self.manual_backward(loss)
            optimizer.step()
        return {"loss": loss.detach()}

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.g.parameters(), lr=0.1), torch.optim.SGD(self.d.parameters(), lr=0.4)]
