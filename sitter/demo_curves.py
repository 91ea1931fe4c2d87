"""The demo's three curves: read from what the scripts wrote, drawn in the terminal and as a picture."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitter import plot
from sitter.errors import SitterError
from sitter.model import Incident, Marker
from sitter.tui.braille import Layer, compose, runs
from sitter.tui.lines import Line, to_ascii
from sitter.tui.scale import Scale, labels, linear_ticks, short_labels

TITLE = "One model, one seed, the same troubles"
STYLES = {"clean": "dim", "unattended": "bad", "babysat": "loss"}
"""Style names of ``sitter.tui.palette``."""
NAMES = {"clean": "no troubles", "unattended": "troubles, alone", "babysat": "troubles, with sitter"}
SHORT = {"clean": "clean", "unattended": "unattended", "babysat": "with sitter"}


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
        series.append(plot.Series(NAMES[name], steps, losses, color=color, width=width, smooth=True, ending=_ending(one)))
    markers = [Marker(x=i.onset, kind="incident", text=_short(i)) for i in incidents]
    planted = "a learning rate multiplied by 100, later a burst of NaN batches"
    plot.draw(
        series, markers, path, TITLE, subtitle=f"next-byte language model on Python's own sources; planted: {planted}",
        y_label="training loss, nats per byte", log_y=True, y_max=ceiling(trained),
    )  # fmt: skip


def screen(trained: dict[str, Trained], incidents: Sequence[Incident], width: int, height: int, *, ascii: bool = False) -> list[Line]:  # noqa: A002
    """The same as lines of named spans, ``height`` of them."""
    rows = height - 4
    lines = {name: one.line()[:2] for name, one in trained.items()}
    last = max((steps[-1] for steps, _ in lines.values() if steps), default=1) or 1
    finite = [v for _, losses in lines.values() for v in losses if math.isfinite(v) and v > 0]
    top = ceiling(trained)
    scale = Scale(0.95 * min(finite, default=1.0), top, 4 * rows, log=True)
    ticks = scale.ticks(max(2, rows // 3))
    texts = dict(zip((round(scale.at(t) or 0) // 4 for t in ticks), labels(ticks), strict=True))
    gutter = max(map(len, texts.values()), default=1)
    cells = max(8, width - gutter - 1)
    layers = []
    ends: list[tuple[int, str]] = []
    for name in ("babysat", "unattended", "clean"):
        layer = Layer(cells, rows, STYLES[name], {"clean": ".", "unattended": "x", "babysat": "*"}[name])
        for stretch in _columns(*lines[name], 2 * cells, last):
            layer.path([(column, min(max(scale.at(v) or 0.0, -8.0), 4.0 * rows)) for column, v in stretch])
        layers.append(layer)
        died = trained[name].died_at_step
        if died is not None:
            ends.append((min(cells - 1, round(died / last * (cells - 1))), name))
    chars, styles = compose(layers, cells, rows, ascii=ascii)
    for cell, name in ends:
        row = next((r for r in range(rows) if any(s == STYLES[name] for s in styles[r][max(0, cell - 3) : cell + 1])), 0)
        chars[row][cell], styles[row][cell] = "✖", "bad"
    marks = [" "] * cells
    for incident in incidents:
        if 0 <= incident.onset <= last:
            marks[round(incident.onset / last * (cells - 1))] = "▲"
    out: list[Line] = [_legend(trained)]
    for row in range(rows):
        text = texts.get(row, "")
        out.append([(text.rjust(gutter), "dim"), ("┤" if text else "│", "rule"), *runs(chars[row], styles[row])])
    out.append([(" " * gutter, ""), ("└", "rule"), ("─" * cells, "rule")])
    out.append([(" " * (gutter + 1), ""), *_steps(cells, last)])
    out.append([(" " * (gutter + 1), ""), ("".join(marks), "warn")])
    return [[(to_ascii(part), style) for part, style in line] for line in out] if ascii else out


def _columns(steps: Sequence[int], losses: Sequence[float], columns: int, last: int) -> list[list[tuple[int, float]]]:
    """Mean of each dot column's losses; a column without a finite one breaks the line."""
    sums, counts = [0.0] * columns, [0] * columns
    lost = [False] * columns
    for step, loss in zip(steps, losses, strict=True):
        column = min(columns - 1, step * (columns - 1) // last)
        if math.isfinite(loss):
            sums[column] += loss
            counts[column] += 1
        else:
            lost[column] = True
    out: list[list[tuple[int, float]]] = [[]]
    for column in range(columns):
        if counts[column]:
            out[-1].append((column, sums[column] / counts[column]))
        elif lost[column] and out[-1]:
            out.append([])
    return [stretch for stretch in out if stretch]


def _steps(cells: int, last: int) -> Line:
    row = [" "] * cells
    ticks = linear_ticks(0, last, max(2, cells // 12))
    for tick, label in zip(ticks, short_labels(ticks), strict=True):
        text = label if tick else "0"
        at = min(max(0, round(tick / last * (cells - 1)) - len(text) // 2), cells - len(text))
        row[at : at + len(text)] = text
    return [("".join(row), "dim")]


def _legend(trained: dict[str, Trained]) -> Line:
    line: Line = []
    for name in ("clean", "unattended", "babysat"):
        line += [("━ ", STYLES[name]), (f"{SHORT[name]} {_ending(trained[name]).removeprefix('val_loss ')}   ", "")]
    return [*line[:-1], (line[-1][0].rstrip(), "")]


def _ending(one: Trained) -> str:
    if one.died_at_step is not None:
        return f"died at step {one.died_at_step:,}"
    return f"val_loss {one.final_val_loss:.3f}"


def _short(incident: Incident) -> str:
    text = incident.text if len(incident.text) <= 52 else incident.text[:51].rstrip() + "…"
    return f"{text} · {incident.steps_lost:,} steps lost" if incident.steps_lost else text
