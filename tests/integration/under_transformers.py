"""A small training under Hugging Face's Trainer, as a user's script has it.

Apart from its tests, so that only who runs them imports the framework, which takes seconds, and not each worker that collects them.
"""

import math
from typing import Any

import torch
import transformers
from torch import nn

import sitter_agent.frameworks.transformers

SitterCallback = sitter_agent.frameworks.transformers.SitterCallback


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.layers(x).squeeze(-1)
        return {"loss": (out - labels).square().mean(), "logits": out}


class Rows(torch.utils.data.Dataset):
    """``bad``: the row whose label is NaN."""

    def __init__(self, n: int, bad: int | None = None) -> None:
        self.x = torch.randn(n, 4, generator=torch.Generator().manual_seed(3))
        self.y = self.x.sum(1)
        if bad is not None:
            self.y[bad] = math.nan

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"x": self.x[i], "labels": self.y[i]}


class Writing(transformers.Trainer):
    """Overrides ``training_step``, as people do, and notes what it returned."""

    losses: list[float]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.losses = [*getattr(self, "losses", []), float(loss)]
        return loss


def train(callbacks: list[Any], bad: int | None = None, model: nn.Module | None = None, **arguments: Any) -> Writing:
    transformers.set_seed(0)
    given: dict[str, Any] = {
        "max_steps": 8, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 0.01, "warmup_steps": 3,
        "logging_steps": 500, "eval_strategy": "steps", "eval_steps": 4, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "use_cpu": True, "seed": 0, "output_dir": "out", "dataloader_pin_memory": False, **arguments,
    }  # fmt: skip
    trainer = Writing(
        model=model or Tiny(), args=transformers.TrainingArguments(**given), train_dataset=Rows(64, bad), eval_dataset=Rows(8),
        callbacks=callbacks,
    )  # fmt: skip
    trainer.train()
    return trainer


class At(transformers.TrainerCallback):
    """Does something once, at one step; listed before ours, so that the next safe point follows."""

    def __init__(self, step: int, do: Any) -> None:
        self.step, self.do = step, do

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.do()
