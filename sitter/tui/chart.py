"""Curves to screen lines: min-max envelope and smooth line, validation above it, the rate below. Pure: tested without a terminal."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from sitter.model import Curve, Curves
from sitter.tui import formats
from sitter.tui.braille import Layer, blend, compose, runs
from sitter.tui.lines import Line, Span, fit, line_width, pack, plain
from sitter.tui.scale import Scale, finite, labels, linear_ticks, padded, short_labels, value_range

Axis = Literal["step", "epoch", "hours"]
Y = Literal["recent", "whole", "log"]

OPENING = 0.06
"""Share of the x axis whose values ``recent`` does not make room for: a loss falls most in the first steps of a run, and with room for
that the days after it would lie in two rows. What is cut off is seen to come from above."""

MARKS = {
    "checkpoint": ("◆", "m-checkpoint", "checkpoint"), "note": ("✎", "m-note", "note"), "knob": ("▼", "m-knob", "knob"),
    "restore": ("↺", "m-restore", "restored"), "restart": ("↻", "m-restore", "started again"), "incident": ("✖", "m-incident", "incident"),
}  # fmt: skip
"""Sign, style and word of a marker; a later kind covers an earlier one in the same cell."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How a chart is to be seen. ``main`` has the band; ``goal`` goes above it, on an axis of its own where ``own_axis`` is set.

    ``per_epoch``: steps in one epoch, needed by the epoch axis. ``lower`` is the signal in the pane below. ``y``: room for what came
    after the opening, for everything, or for everything on a log scale.
    """

    main: str = "loss"
    goal: str | None = None
    own_axis: bool = False
    lower: str | None = "lr"
    axis: Axis = "step"
    per_epoch: float | None = None
    y: Y = "recent"
    band: bool = True
    ascii: bool = False
    title: str = ""


def calm(values: Sequence[float]) -> list[float]:
    """Median of each column and its known neighbours two to each side: a spike of a column or two is the band's to show, not the line's."""
    known = [i for i, v in enumerate(values) if math.isfinite(v)]
    out: list[float] = [math.nan] * len(values)
    for k, i in enumerate(known):
        j = min(2, k, len(known) - 1 - k)
        near = sorted(values[n] for n in known[k - j : k + j + 1])
        out[i] = near[j]
    return out


def smooth(values: Sequence[float], reach: int) -> list[float]:
    """Mean over ``reach`` columns on both sides; an empty or lost column stays empty and is bridged by none."""
    out: list[float] = [math.nan] * len(values)
    total, known = [0.0], [0]
    for v in values:
        ok = math.isfinite(v)
        total.append(total[-1] + (v if ok else 0.0))
        known.append(known[-1] + ok)
    n = len(values)
    for i, v in enumerate(values):
        if math.isfinite(v):
            k = min(reach, i, n - 1 - i)  # the same on both sides, else the ends would lag behind
            out[i] = (total[i + k + 1] - total[i - k]) / (known[i + k + 1] - known[i - k])
    return out


class _Field:
    """The plotting area: ``cells`` across, x from ``lo`` to ``hi``."""

    def __init__(self, cells: int, lo: float, hi: float) -> None:
        self.cells, self.lo = cells, lo
        self.per = (2 * cells - 1) / (hi - lo) if hi > lo else 0.0

    def column(self, x: float) -> int:
        return round((x - self.lo) * self.per)

    def cell(self, x: float) -> int:
        return self.column(x) // 2


def _stretches(curve: Curve, values: Sequence[float], field: _Field, scale: Scale) -> list[list[tuple[int, float]]]:
    """Paths in dots, broken where a value was lost (nan or inf), not where a column is merely empty."""
    lost = sorted(curve.lost)
    out: list[list[tuple[int, float]]] = [[]]
    gaps = iter(lost)
    gap = next(gaps, None)
    for x, v in zip(curve.x, values, strict=False):
        row = scale.at(v)
        if row is None or not math.isfinite(x):
            continue
        while gap is not None and gap < x:
            gap = next(gaps, None)
            if out[-1]:
                out.append([])
        out[-1].append((field.column(x), row))
    return [s for s in out if s]


def _line(layer: Layer, curve: Curve, values: Sequence[float], field: _Field, scale: Scale, dash: int = 0) -> None:
    for stretch in _stretches(curve, values, field, scale):
        layer.path(stretch, dash=dash)


def _band(layer: Layer, curve: Curve, field: _Field, scale: Scale, *, bridged: bool = True) -> None:
    """From the lowest to the highest value of each column; ``bridged`` fills a few empty columns between."""
    previous: tuple[int, float, float] | None = None
    for x, low, high in zip(curve.x, curve.low, curve.high, strict=False):
        if not math.isfinite(x):
            continue
        # one side may be off a log scale: then the band ends at the edge
        top, bottom = scale.at(high), scale.at(low)
        if top is None:
            continue
        bottom = scale.dots + 1.0 if bottom is None else bottom
        column = field.column(x)
        if bridged and previous is not None and 1 < column - previous[0] <= 4:
            for between in range(previous[0] + 1, column):
                layer.span(between, (previous[1] + top) / 2, (previous[2] + bottom) / 2)
        layer.span(column, top, bottom)
        previous = (column, top, bottom)


def draw(data: Curves | None, look: Look, width: int, height: int, ref: Sequence[Curve] = ()) -> list[Line]:
    """A chart in exactly ``height`` lines of at most ``width`` columns. ``ref`` is drawn dashed, on the step axis only."""
    if width < 12 or height < 3:
        return [[] for _ in range(height)]
    if data is None or not any(math.isfinite(v) or c.lost for c in data.curves for v in (*c.mean, 0.0 if c.lost else math.nan)):
        text = "asking for the curves" if data is None else "no data yet: what the script logs by agent.log(…) will appear here"
        return _nothing(text, width, height)
    return _Chart(data, look, width, height, ref if look.axis != "hours" else ()).lines()


def _nothing(text: str, width: int, height: int) -> list[Line]:
    out: list[Line] = [[] for _ in range(height)]
    text = text[:width]
    out[height // 2] = [(" " * ((width - len(text)) // 2), ""), (text, "dim")]
    return out


class _Chart:
    """One drawing: works out the rows, then the panes from top to bottom."""

    def __init__(self, data: Curves, look: Look, width: int, height: int, ref: Sequence[Curve]) -> None:
        self.data, self.look, self.width, self.height, self.ref = data, look, width, height, ref
        self.by_name: dict[str, list[Curve]] = {}
        for curve in data.curves:
            self.by_name.setdefault(curve.signal, []).append(curve)
        self.goal = look.goal if look.goal != look.main else None
        self.markers = [m for m in data.markers if data.lo <= m.x <= data.hi and m.kind in MARKS]
        lower = look.lower if look.lower and look.lower not in (look.main, self.goal) and height >= 9 else None
        self.lower = lower if lower and any(scale_values(c) for c in self.by_name.get(lower, [])) else None
        self.mark_rows = 1 if self.markers and height >= 7 else 0
        self.lower_rows = (2 if height < 13 else 3 if height < 28 else 5) if self.lower else 0
        self.main_rows = height - 2 - self.mark_rows - self.lower_rows

    def lines(self) -> list[Line]:
        main, goal = self._curves(self.look.main), self._curves(self.goal)
        ranged = main if self.look.own_axis or not goal else [*main, *goal]
        scale = self._scale(ranged or goal, self.look.y == "log")
        left = _gutter(scale, self.main_rows)
        right_scale = self._scale(goal, log=False) if self.look.own_axis and goal else None
        right = _gutter(right_scale, self.main_rows) if right_scale else {}
        lower_scale = self._lower_scale()
        low_label = self._lower_labels()
        gutter = max(map(len, [*left.values(), *low_label.values()]), default=1)
        margin = max(map(len, right.values()), default=0)
        margin += 2 if margin else 0
        cells = max(4, self.width - gutter - 1 - margin)
        field = _Field(cells, self.data.lo, self.data.hi)
        out: list[Line] = [self._legend()]
        for row, plot in enumerate(self._main(field, scale, right_scale)):
            line = _y_label(left.get(row, ""), gutter) + plot
            if margin:
                line = [*line, (" " * (gutter + 1 + cells - line_width(line)), ""), ("├" if row in right else "│", "rule")]
                line.append((right.get(row, ""), "goal"))
            out.append(line)
        if self.mark_rows:
            out.append([(" " * (gutter + 1), ""), *self._marks(field)])
        if self.lower and lower_scale:
            layer = Layer(cells, self.lower_rows, "lr", "-")
            for curve in self._curves(self.lower):
                _line(layer, curve, curve.mean, field, lower_scale)
                _band(layer, curve, field, lower_scale, bridged=False)
            chars, styles = compose([layer], cells, self.lower_rows, ascii=self.look.ascii)
            out += [_y_label(low_label.get(row, ""), gutter, "lr") + runs(chars[row], styles[row]) for row in range(self.lower_rows)]
        out.append(self._x_axis(gutter, cells))
        return [fit(line, self.width, ellipsis=False) for line in out]

    def _curves(self, name: str | None) -> list[Curve]:
        return [c for c in self.by_name.get(name, []) if not c.abandoned] if name else []

    def _smooth(self, curve: Curve) -> list[float]:
        return smooth(calm(curve.mean), max(1, len(curve.mean) // 90))

    def _scale(self, curves: Sequence[Curve], log: bool) -> Scale:
        line: list[float] = []
        band: list[float] = []
        since = self._opening()
        for c in curves:
            # of a short curve, every point counts
            from_ = since if sum(map(math.isfinite, c.mean)) > 30 else -math.inf
            values = self._smooth(c) if c.signal == self.look.main else c.mean
            line += [v for x, v in zip(c.x, values, strict=False) if x >= from_]
            if self.look.band and c.signal == self.look.main:
                band += [v for ends in (c.low, c.high) for x, v in zip(c.x, ends, strict=False) if x >= from_]
        found = value_range(line, band, log=log, whole=self.look.y == "whole")
        if found is None and log:
            log, found = False, value_range(line, band, log=False)
        low, high = found or (0.0, 1.0)
        return Scale(low, high, 4 * self.main_rows, log=log)

    def _opening(self) -> float:
        return self.data.lo + OPENING * (self.data.hi - self.data.lo) if self.look.y == "recent" else -math.inf

    def _lower_values(self) -> list[float]:
        """The ends of what each column held: the mean of a column in which a knob moved is a value that never was."""
        curves = self._curves(self.lower)
        # without the warm-up, as above: the rate of the days after it would be a flat line
        since = self._opening() if sum(len(c.x) for c in curves) > 30 else -math.inf
        return finite([v for c in curves for ends in (c.low, c.high) for x, v in zip(c.x, ends, strict=False) if x >= since])

    def _lower_scale(self) -> Scale | None:
        values = self._lower_values()
        if not values:
            return None
        log = min(values) > 0 and max(values) / min(values) > 30
        low, high = padded(min(values), max(values), log=log)
        return Scale(low, high, 4 * self.lower_rows, log=log)

    def _lower_labels(self) -> dict[int, str]:
        """Name and the highest value at the top, the lowest at the bottom."""
        values = self._lower_values()
        if not values or not self.lower:
            return {}
        top, bottom = (formats.rate(float(f"{v:.2g}")) for v in (max(values), min(values)))
        return {0: f"{plain(self.lower)} {top}"} | ({self.lower_rows - 1: bottom} if bottom != top else {})

    def _main(self, field: _Field, scale: Scale, right: Scale | None) -> list[Line]:
        look, cells, rows = self.look, field.cells, self.main_rows
        goal, line = Layer(cells, rows, "goal", "o"), Layer(cells, rows, "loss", "*")
        ref, band, gone = Layer(cells, rows, "ref", "-"), Layer(cells, rows, "loss-band", "."), Layer(cells, rows, "gone", "'")
        for name in (look.main, self.goal):
            for curve in self.by_name.get(name, []) if name else []:
                if curve.abandoned:
                    _line(gone, curve, curve.mean, field, right if right and name == self.goal else scale)
        for curve in self._curves(look.main):
            if look.band:
                _band(band, curve, field, scale)
            _line(line, curve, self._smooth(curve), field, scale)
        for curve in self._curves(self.goal):
            _line(goal, curve, curve.mean, field, right or scale)
        for curve in self.ref:
            if curve.signal in (look.main, self.goal):
                _line(ref, curve, curve.mean, field, right if right and curve.signal == self.goal else scale, dash=3)
        chars, styles = compose([goal, line, ref, gone, band], cells, rows, ascii=look.ascii)
        blend(goal, line, chars, styles, ascii=look.ascii)
        self._verticals(field, chars, styles)
        for curve in self._curves(look.main):
            for x in curve.lost:
                if math.isfinite(x) and 0 <= (cell := field.cell(x)) < cells:
                    chars[0][cell], styles[0][cell] = "×", "bad"
        return [runs(chars[row], styles[row]) for row in range(rows)]

    def _verticals(self, field: _Field, chars: list[list[str]], styles: list[list[str]]) -> None:
        for marker in self.markers:
            cell = field.cell(marker.x)
            if marker.kind in ("incident", "knob") and 0 <= cell < field.cells:
                for row in range(self.main_rows):
                    if chars[row][cell] == " ":
                        chars[row][cell], styles[row][cell] = "┊", "faint"

    def _marks(self, field: _Field) -> list[Span]:
        chars, styles = [" "] * field.cells, [""] * field.cells
        for marker in sorted(self.markers, key=lambda m: list(MARKS).index(m.kind)):
            cell = min(max(field.cell(marker.x), 0), field.cells - 1)
            chars[cell], styles[cell], _ = MARKS[marker.kind]
        return runs(chars, styles)

    def _legend(self) -> Line:
        look = self.look
        left: list[tuple[int, Line]] = [(0, [(look.title, "title")])] if look.title else []
        left.append((0, [("━ ", "loss"), (plain(look.main), "")]))
        if self._curves(self.goal) and self.goal:
            left.append((0, [("━ ", "goal"), (plain(self.goal), "")]))
        if any(c.signal in (look.main, self.goal) for c in self.ref):
            left.append((1, [("┄ ", "ref"), ("ref", "dim")]))
        if any(c.abandoned for c in self.data.curves):
            left.append((4, [("━ ", "gone"), ("left behind", "dim")]))
        marks: list[tuple[int, Line]] = [
            (3, [(f"{sign} ", style), (word, "dim")])
            for kind, (sign, style, word) in reversed(MARKS.items())  # the gravest last longest in a narrow line
            if any(m.kind == kind for m in self.markers)
        ]
        how = " · ".join([look.axis] + ([look.y] if look.y != "recent" else []))
        return pack([*left, (9, [(" ", "")]), *marks, (2, [(how, "dim")])], self.width)

    def _x_axis(self, gutter: int, cells: int) -> Line:
        per = self.look.per_epoch if self.look.axis == "epoch" and self.look.per_epoch else 1.0
        lo, hi = self.data.lo / per, self.data.hi / per
        ticks = linear_ticks(lo, hi, max(2, cells // 10))
        texts = short_labels(ticks)
        unit = {"step": "", "epoch": " ep", "hours": " h"}[self.look.axis]
        row = ["─"] * cells
        free = 0
        for tick, text in zip(ticks, texts, strict=True):
            label = text + unit
            at = round((tick - lo) / (hi - lo) * (cells - 1)) - len(label) // 2 if hi > lo else 0
            at = min(max(at, 0), cells - len(label))
            if at >= free and len(label) <= cells:
                row[at : at + len(label)] = label
                free = at + len(label) + 2
        spans = runs(row, ["rule" if c == "─" else "dim" for c in row])
        return [(" " * gutter, ""), ("└", "rule"), *spans]


def scale_values(curve: Curve) -> list[float]:
    """The finite means of a curve."""
    return finite(curve.mean)


def _gutter(scale: Scale, rows: int) -> dict[int, str]:
    ticks = scale.ticks(max(2, rows // 3))
    out: dict[int, str] = {}
    for tick, text in zip(ticks, labels(ticks), strict=True):
        at = scale.at(tick)
        if at is not None and 0 <= at < 4 * rows:
            out.setdefault(round(at) // 4, text)
    return out


def _y_label(text: str, gutter: int, style: str = "dim") -> Line:
    return [(text.rjust(gutter), style), ("┤" if text else "│", "rule")]
