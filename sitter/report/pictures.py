"""The pictures of a report: loss, goal, rate and gradient norm, with what was left behind in grey."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from sitter.errors import UsageError
from sitter.model import Curve, Curves, Marker
from sitter.plot import COLORS, Series, svg
from sitter.report.facts import Facts, known
from sitter.store.reader import Reader
from sitter_wire.queries import GetCurves

Axis = Literal["step", "hours", "tokens"]
LABELS = {"step": "step", "hours": "hours since the run began", "tokens": "tokens"}
COLUMNS = 1200
GREY = "#b8bfc7"
MARKED = ("incident", "restore", "restart", "knob", "note")
NOISY = ("loss", "grad_norm")
SMOOTHED = 300
"""Columns from which on a noisy signal is drawn as a band with its mean."""
WIDE = 20.0
"""What reaches so many times higher than its median is drawn on a log scale: else the rest of the run is one flat line."""
BEHIND, BEHIND_LOG = 0.5, 10.0
"""So far above the rest, as a share of its span or on a log scale as a factor, what was left behind is shown."""
MOST_MARKS = 40
"""More of them would hide the curve."""


@dataclass(frozen=True, slots=True)
class Picture:
    """``name`` is a file's stem; ``svg`` one element."""

    name: str
    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture: its signals with their labels, on one scale."""

    name: str
    title: str
    signals: tuple[tuple[str, str], ...]
    log_y: bool = False


PICTURES = (
    Wanted("loss", "Loss", (("loss", "loss"), ("val_loss", "val_loss"))),
    Wanted("lr", "Learning rate: scheduled, and as it was in effect", (("lr_scheduled", "scheduled"), ("lr", "effective"))),
    Wanted("grad_norm", "Gradient norm", (("grad_norm", "grad_norm"),), log_y=True),
)
"""In the order in which they are shown. The goal has one of its own where it is none of these."""


def pictures(reader: Reader, facts: Facts, axis: Axis = "step", tokens_per_step: float | None = None) -> list[Picture]:
    """Those of which something was logged. Raises StoreError."""
    wanted = list(PICTURES)
    if facts.goal is not None and facts.goal not in ("loss", "val_loss"):
        wanted.insert(1, Wanted("goal", f"The goal: {facts.goal}, {facts.better} is better", ((facts.goal, facts.goal),)))
    across = _tokens(reader, tokens_per_step) if axis == "tokens" else None
    found = []
    for one in wanted:
        query = GetCurves(
            signals=[name for name, _ in one.signals], columns=COLUMNS, axis="hours" if axis == "hours" else "step", abandoned=True
        )
        data = reader.curves(query)
        if any(known(curve) for curve in data.curves):
            found.append(Picture(one.name, one.title, _drawn(one, data, LABELS[axis], across)))
    return found


def _drawn(wanted: Wanted, data: Curves, x_label: str, across: Callable[[float], float] | None) -> str:
    labels = dict(wanted.signals)
    left = [curve for curve in data.curves if curve.abandoned]
    grey = [_series(curve, "" if i else "left behind", across, GREY) for i, curve in enumerate(left)]
    present = [curve for curve in data.curves if not curve.abandoned and known(curve)]
    own = [_series(curve, labels[curve.signal], across, color) for curve, color in zip(present, COLORS, strict=False)]
    marks = [_moved(mark, across) for mark in data.markers if mark.kind in MARKED][-MOST_MARKS:]
    bounds = [y for s in own for y in s.y if math.isfinite(y)]
    log_y = bool(bounds) and min(bounds) > 0 and (wanted.log_y or max(bounds) > WIDE * median(bounds))
    across_all = [x for one in (*grey, *own) for x in one.x]
    least, most = min(across_all), max(across_all)  # a column's x is its middle: what lies in the outer halves of the first and last stays
    signs = [Marker(x=min(max(mark.x, least), most), kind=mark.kind) for mark in marks]  # what they say stands in the table
    return svg([*grey, *own], signs, wanted.title, x_label=x_label, log_y=log_y, y_max=_ceiling(own, grey, log_y))


def _ceiling(own: Sequence[Series], left: Sequence[Series], log_y: bool) -> float | None:
    """What left the usual by far, and what was left behind where it blew up, is seen to leave the picture, so that the rest can be seen."""
    values = sorted(y for s in own for y in s.y if math.isfinite(y))
    if not values:
        return None
    least, most, behind = values[0], values[-1], max((y for s in left for y in s.y if math.isfinite(y)), default=values[-1])
    if log_y:
        return BEHIND_LOG * most if behind > BEHIND_LOG * most else None
    usual = values[int(0.995 * (len(values) - 1))]
    if len(values) >= 100 and most > usual + 2.0 * (usual - least):
        return usual + 0.3 * (usual - least)
    room = BEHIND * (most - least or abs(most))
    return most + room if behind > most + room else None


def _series(curve: Curve, label: str, across: Callable[[float], float] | None, color: str) -> Series:
    """Columns in which nothing was logged are bridged, those with a value that is not finite break the line."""
    lost = set(curve.lost)
    at = [i for i, x in enumerate(curve.x) if math.isfinite(x) and (math.isfinite(curve.mean[i]) or x in lost)]
    x = [curve.x[i] if across is None else across(curve.x[i]) for i in at]
    smooth = curve.signal in NOISY and len(at) > SMOOTHED
    return Series(label=label, x=x, y=[curve.mean[i] for i in at], color=color, width=1.6, smooth=smooth)


def _moved(mark: Marker, across: Callable[[float], float] | None) -> Marker:
    return mark if across is None else Marker(x=across(mark.x), kind=mark.kind, text=mark.text)


def _tokens(reader: Reader, per_step: float | None) -> Callable[[float], float]:
    """Steps to tokens: so many each, else by the signal ``tokens`` (in all so far, else of each step)."""
    if per_step is not None:
        return lambda step: step * per_step
    import numpy as np

    steps, _, counts = reader.points("tokens")
    if not len(steps):
        raise UsageError("no signal `tokens` was logged: say how many a step takes with --tokens-per-step, or choose --axis step")
    total = counts if np.all(np.diff(counts) >= 0) and counts[-1] > 10 * counts[0] else np.cumsum(counts)
    return lambda step: float(np.interp(step, steps, total))
