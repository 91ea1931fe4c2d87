"""The demo's three curves: read from what the scripts wrote, drawn as a picture."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitter import plot
from sitter.errors import SitterError
from sitter.model import Incident, Marker

TITLE = "One model, one seed, the same troubles"
NAMES = {"clean": "no troubles", "unattended": "troubles, alone", "babysat": "troubles, with sitter"}


@dataclass(frozen=True)
class Trained:
    """What one training wrote about itself. ``step`` and ``loss`` have one entry a turn; a rollback makes ``step`` fall."""

    final_val_loss: float
    died_at_step: int | None
    seconds: float
    steps_per_s: float | None
    log_us_p50: float | None
    step: list[int]
    loss: list[float]

    @classmethod
    def read(cls, path: Path) -> "Trained":
        """Raises SitterError where the script did not come to its end."""
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                final_val_loss=float(raw["final_val_loss"]), died_at_step=raw["died_at_step"], seconds=raw["seconds"],
                steps_per_s=raw["steps_per_s"], log_us_p50=raw["log_us_p50"], step=raw["step"], loss=[float(v) for v in raw["loss"]],
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise SitterError(f"expected {path} from the demo's training, found none that is whole ({e}); see the log beside it") from e

    def line(self) -> tuple[list[int], list[float], list[tuple[int, int]]]:
        """The steps that lasted, their losses, and the rollbacks as (left, went back to)."""
        steps: list[int] = []
        losses: list[float] = []
        backs: list[tuple[int, int]] = []
        for step, loss in zip(self.step, self.loss, strict=True):
            if steps and step <= steps[-1]:
                backs.append((steps[-1], step))
                while steps and steps[-1] >= step:
                    steps.pop()
                    losses.pop()
            steps.append(step)
            losses.append(loss)
        return steps, losses, backs


def ceiling(trained: dict[str, Trained]) -> float:
    """The loss that the drawing reaches up to: a little above where the runs began. What blew up is seen to leave it."""
    began = [one.loss[0] for one in trained.values() if one.loss and math.isfinite(one.loss[0])]
    return 1.15 * max(began, default=6.0)


def picture(trained: dict[str, Trained], incidents: Sequence[Incident], path: Path) -> None:
    """Raises SitterError, UsageError as ``plot.draw``."""
    look = {"clean": ("#9fb3c8", 6.0), "unattended": ("#d9480f", 2.2), "babysat": ("#1864ab", 2.2)}
    series = []
    for name, one in trained.items():
        steps, losses, _ = one.line()
        color, width = look[name]
        series.append(plot.Series(NAMES[name], steps, losses, color=color, width=width, smooth=True, ending=ending(one)))
    markers = [Marker(x=i.onset, kind="incident", text=_short(i)) for i in incidents]
    planted = "a learning rate multiplied by 100, later a burst of NaN batches"
    plot.draw(
        series, markers, path, TITLE, subtitle=f"next-byte language model on Python's own sources; planted: {planted}",
        y_label="training loss, nats per byte", log_y=True, y_max=ceiling(trained),
    )  # fmt: skip


def ending(one: Trained) -> str:
    """How it ended, in few words."""
    if one.died_at_step is not None:
        return f"died at step {one.died_at_step:,}"
    return f"val_loss {one.final_val_loss:.3f}"


def _short(incident: Incident) -> str:
    text = incident.text if len(incident.text) <= 52 else incident.text[:51].rstrip() + "…"
    return f"{text} · {incident.steps_lost:,} steps lost" if incident.steps_lost else text
