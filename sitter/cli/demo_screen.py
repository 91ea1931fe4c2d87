"""The demo's three curves in the terminal, with the TUI's own dots."""

import math
from collections.abc import Sequence

from sitter.demo.curves import Trained, ceiling, ending
from sitter.model import Incident
from sitter.tui.braille import Layer, compose, runs
from sitter.tui.lines import Line, to_ascii
from sitter.tui.scale import Scale, labels, linear_ticks, short_labels

STYLES = {"clean": "dim", "unattended": "bad", "babysat": "loss"}
"""Style names of ``sitter.tui.palette``."""
INKS = {"clean": ".", "unattended": "x", "babysat": "*"}
NAMES = {"clean": "clean", "unattended": "unattended", "babysat": "with sitter"}


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
        layer = Layer(cells, rows, STYLES[name], INKS[name])
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
        line += [("━ ", STYLES[name]), (f"{NAMES[name]} {ending(trained[name]).removeprefix('val_loss ')}   ", "")]
    return [*line[:-1], (line[-1][0].rstrip(), "")]
