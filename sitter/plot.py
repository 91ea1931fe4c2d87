"""Curves as a picture, for a report or a README: PNG or SVG, with what happened on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sitter.canvas import Canvas, SvgCanvas, Xy, canvas_for
from sitter.model import Marker

WIDTH, HEIGHT = 1200, 640
LEFT, RIGHT, TOP, BOTTOM = 72, 28, 108, 64
INK, MUTED, GRID, PAPER = "#1f2933", "#66717d", "#e6e9ed", "#ffffff"
COLORS = ("#2563a8", "#d9480f", "#2f9e44", "#7048a8", "#b8860b", "#0b7285")
"""Blue and vermilion first: told apart with every common colour blindness (Okabe & Ito 2008)."""
MARKS = {
    "incident": "#c92a2a", "restore": "#2f9e44", "restart": "#0b7285", "knob": "#7048a8", "checkpoint": "#66717d", "note": "#66717d",
}  # fmt: skip
SIGN = 17
"""Pixels that a sign takes."""
MOST_SIGN_ROWS = 4
SMOOTH = 0.02
"""Share of the curve's length that the smooth line averages over."""


@dataclass(frozen=True)
class Series:
    """A curve. ``x`` rises; ``y`` may hold nan and inf: there the line is broken, and where it ENDS so stands a cross.

    Without a ``label`` it is not in the legend. ``smooth``: a pale band from least to greatest with the mean in it, instead of every
    zigzag. ``ending``: what is said at its end.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str | None = None
    width: float = 2
    dashed: bool = False
    smooth: bool = False
    ending: str = ""


@dataclass(frozen=True)
class _Frame:
    """Data to pixels. ``y`` on a log scale, where it is one."""

    x0: float
    x1: float
    y0: float
    y1: float
    log: bool

    def at(self, x: float, y: float) -> Xy:
        if self.log:
            share = math.log(y / self.y0) / math.log(self.y1 / self.y0) if y > 0 else -1.0
        else:
            share = (y - self.y0) / (self.y1 - self.y0)
        return self.across(x), HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def across(self, x: float) -> float:
        return LEFT + (x - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)


def draw(
    series: Sequence[Series], markers: Sequence[Marker], path: Path, title: str,
    *, subtitle: str = "", x_label: str = "step", y_label: str = "", log_y: bool = False, y_max: float | None = None,
) -> None:  # fmt: skip
    """Write the picture to ``path`` (.png or .svg). What exceeds ``y_max`` is cut at the frame.

    Raises UsageError for another ending, SitterError where it cannot be written.
    """
    canvas = canvas_for(path, WIDTH, HEIGHT, PAPER)
    draw_on(canvas, series, markers, title, subtitle=subtitle, x_label=x_label, y_label=y_label, log_y=log_y, y_max=y_max)
    canvas.save(path)


def svg(
    series: Sequence[Series], markers: Sequence[Marker], title: str,
    *, subtitle: str = "", x_label: str = "step", y_label: str = "", log_y: bool = False, y_max: float | None = None,
) -> str:  # fmt: skip
    """The picture as an SVG element, to stand in a page."""
    canvas = SvgCanvas(WIDTH, HEIGHT, PAPER)
    draw_on(canvas, series, markers, title, subtitle=subtitle, x_label=x_label, y_label=y_label, log_y=log_y, y_max=y_max)
    return canvas.element()


def draw_on(
    canvas: Canvas, series: Sequence[Series], markers: Sequence[Marker], title: str,
    *, subtitle: str, x_label: str, y_label: str, log_y: bool, y_max: float | None,
) -> None:  # fmt: skip
    """The picture on a canvas of ``WIDTH`` × ``HEIGHT``."""
    frame = _frame(series, log_y, y_max)
    canvas.text((LEFT, 30), title, 22, INK, bold=True)
    canvas.text((LEFT, 58), subtitle, 14, MUTED)
    _axes(canvas, frame, x_label, y_label)
    shown = sorted((m for m in markers if frame.x0 <= m.x <= frame.x1), key=lambda m: m.x)
    for m in shown:
        at = frame.across(m.x)
        canvas.line([(at, TOP), (at, HEIGHT - BOTTOM)], MARKS[m.kind], 1.2, dash=(3, 4), opacity=0.7)
    for i, one in enumerate(series):
        _curve(canvas, frame, one, one.color or COLORS[i % len(COLORS)])
    _endings(canvas, frame, series)
    _marker_texts(canvas, frame, shown)
    _legend(canvas, series)


def nice_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers in [low, high] at steps of 1, 2 or 5 times a power of ten, near ``about`` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in [low, high] for a log scale, more to a decade where there are few decades."""
    leading = (1, 2, 5) if high / low > 30 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [round(m * 10.0**p, 12) for p in powers for m in leading if low <= m * 10.0**p <= high]
    return ticks if len(ticks) > 2 else [t for t in nice_ticks(low, high) if t > 0]


def number(value: float) -> str:
    """A tick's text: 0.05, 2.5, 1,600, 40k."""
    if abs(value) >= 10_000 and value % 1_000 == 0:
        return f"{value / 1_000:,.0f}k"
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def _frame(series: Sequence[Series], log: bool, y_max: float | None) -> _Frame:
    xs = [x for s in series for x in s.x]
    ys = [y for s in series for y in s.y if math.isfinite(y) and (y > 0 or not log)]
    x0, x1 = (min(xs), max(xs)) if xs else (0.0, 1.0)
    y0, y1 = (min(ys), max(ys)) if ys else (0.1, 1.0)
    if y_max is not None:
        y1 = max(min(y1, y_max), y0)
    room = (y1 - y0) or abs(y1) or 1.0
    low, high = (y0 / 1.05, y1 * 1.05) if log else (y0 - 0.05 * room, y1 + 0.05 * room)
    return _Frame(x0, x1 if x1 > x0 else x0 + 1, low, high, log)


def _axes(canvas: Canvas, frame: _Frame, x_label: str, y_label: str) -> None:
    for y in (log_ticks if frame.log else nice_ticks)(frame.y0, frame.y1):
        _, at = frame.at(frame.x0, y)
        canvas.line([(LEFT, at), (WIDTH - RIGHT, at)], GRID, 1)
        canvas.text((LEFT - 10, at), number(y), 13, MUTED, anchor="end")
    floor = HEIGHT - BOTTOM
    canvas.line([(LEFT, floor), (WIDTH - RIGHT, floor)], MUTED, 1)
    for x in nice_ticks(frame.x0, frame.x1, 8):
        at = frame.across(x)
        canvas.line([(at, floor), (at, floor + 5)], MUTED, 1)
        canvas.text((at, floor + 18), number(x), 13, MUTED, anchor="middle")
    canvas.text(((LEFT + WIDTH - RIGHT) / 2, floor + 44), x_label, 14, MUTED, anchor="middle")
    canvas.text((LEFT, TOP - 24), y_label, 14, MUTED)


def _marker_texts(canvas: Canvas, frame: _Frame, markers: Sequence[Marker]) -> None:
    """A sign on the upper edge each, and its text beside it, on a lower row where it would overlap the one before."""
    ends: list[float] = []
    rows = _sign_rows([frame.across(m.x) for m in markers]) if not any(m.text for m in markers) else [0] * len(markers)
    for m, down in zip(markers, rows, strict=True):
        at, color = frame.across(m.x), MARKS[m.kind]
        _sign(canvas, m.kind, (at, TOP + SIGN * down), color)
        if not m.text:
            continue
        wide = canvas.width(m.text, 13) + 8
        left = at + 12 if at + 12 + wide <= WIDTH - RIGHT else at - 12 - wide
        over_a_sign = any(left - 8 < frame.across(other.x) < left + wide + 8 for other in markers if other is not m)
        ends = ends or [0.0]  # the first row is that of the signs
        row = next((i for i, end in enumerate(ends) if end <= left and not (i == 0 and over_a_sign)), len(ends))
        ends[row : row + 1] = [left + wide]
        y = TOP + 2 + 20 * row
        canvas.area(_box(left - 4, y - 9, wide, 18), PAPER, opacity=0.85)
        canvas.text((left, y), m.text, 13, color)


def _sign_rows(at: Sequence[float]) -> list[int]:
    """Signs without texts, by their pixels from left to right, one below the other where they would lie on each other."""
    taken: list[float] = []
    rows = []
    for x in at:
        row = next((i for i, last in enumerate(taken) if x - last >= SIGN), len(taken) if len(taken) < MOST_SIGN_ROWS else 0)
        taken[row : row + 1] = [x]
        rows.append(row)
    return rows


def _sign(canvas: Canvas, kind: str, at: Xy, color: str) -> None:
    x, y = at
    if kind == "incident":
        _cross(canvas, at, color)
    elif kind == "restore":  # points back, to where the run went
        canvas.area([(x - 8, y), (x + 5, y - 7), (x + 5, y + 7)], color)
    elif kind == "restart":  # points on, from where the next process began
        canvas.area([(x + 8, y), (x - 5, y - 7), (x - 5, y + 7)], color)
    elif kind == "knob":
        canvas.area([(x - 7, y - 6), (x + 7, y - 6), (x, y + 7)], color)
    else:
        canvas.area([(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)], color)


def _cross(canvas: Canvas, at: Xy, color: str, size: float = 6) -> None:
    x, y = at
    for sign in (1, -1):
        canvas.line([(x - size, y - sign * size), (x + size, y + sign * size)], color, 3)


def _curve(canvas: Canvas, frame: _Frame, one: Series, color: str) -> None:
    dash = (7.0, 5.0) if one.dashed else None
    for stretch in _stretches(one):
        if one.smooth:
            low, high, mean = _smoothed(stretch, max(1, round(len(one.x) * SMOOTH)))
            band = [frame.at(x, y) for x, y in low] + [frame.at(x, y) for x, y in reversed(high)]
            canvas.area([_kept(p) for p in band], color, opacity=0.16)
            stretch = mean
        for part in _within([frame.at(x, y) for x, y in stretch]):
            canvas.line(part, color, one.width, dash=dash)


def _endings(canvas: Canvas, frame: _Frame, series: Sequence[Series]) -> None:
    """A cross where a curve ends without a value, and what is said at the ends, one above the other where they meet."""
    taken: list[Xy] = []
    for i, one in enumerate(series):
        color = one.color or COLORS[i % len(COLORS)]
        finite = [k for k, y in enumerate(one.y) if math.isfinite(y)]
        if not finite:
            continue
        x, y = _kept(frame.at(one.x[finite[-1]], _level(one, finite)))
        died = finite[-1] < len(one.y) - 1
        if died:
            _cross(canvas, (x, y), color, 7)
        if not one.ending:
            continue
        wide = canvas.width(one.ending, 14)
        beside = died and x + 16 + wide <= WIDTH - RIGHT
        at = (x + 16, y) if beside else (x - 4 - wide, y - 18)
        while any(abs(at[0] - other[0]) < wide and abs(at[1] - other[1]) < 18 for other in taken):
            at = (at[0], at[1] - 1)
        taken.append(at)
        canvas.text(at, one.ending, 14, color, bold=True)


def _level(one: Series, finite: Sequence[int]) -> float:
    """Where the drawn line ends: the mean of the last window where it is smooth, else the last value."""
    window = finite[-max(1, round(len(one.x) * SMOOTH)) :] if one.smooth else finite[-1:]
    return sum(one.y[i] for i in window) / len(window)


def _stretches(one: Series) -> list[list[Xy]]:
    """The curve between what is not finite."""
    parts: list[list[Xy]] = [[]]
    for x, y in zip(one.x, one.y, strict=True):
        if math.isfinite(y):
            parts[-1].append((x, y))
        elif parts[-1]:
            parts.append([])
    return [p for p in parts if p]


def _smoothed(points: Sequence[Xy], window: int) -> tuple[list[Xy], list[Xy], list[Xy]]:
    """Least, greatest and mean over a trailing window, one point for each half of a window (and the ends)."""
    low: list[Xy] = []
    high: list[Xy] = []
    mean: list[Xy] = []
    # The first steps fall steeply: there every point counts; later half a window is as much as the eye can tell apart.
    n = len(points)
    ends = sorted({*range(1, min(n, 2 * window) + 1), *range(1, n + 1, max(1, window // 2)), n})
    for end in ends:
        part = [y for _, y in points[max(0, end - min(window, max(1, end // 3))) : end]]
        x = points[end - 1][0]
        low.append((x, min(part)))
        high.append((x, max(part)))
        mean.append((x, sum(part) / len(part)))
    return low, high, mean


def _kept(p: Xy) -> Xy:
    return p[0], min(max(p[1], TOP), HEIGHT - BOTTOM)


def _within(points: Sequence[Xy]) -> list[list[Xy]]:
    """The parts of a line inside the frame; it is cut where it crosses the upper or lower edge."""
    parts: list[list[Xy]] = [[]]
    before: Xy | None = None
    for p in points:
        if before is not None:
            inside = _clip(before, p)
            if inside is None:
                if parts[-1]:
                    parts.append([])
            else:
                start, end = inside
                if not parts[-1] or parts[-1][-1] != start:
                    parts.append([start])
                parts[-1].append(end)
        before = p
    return [p for p in parts if len(p) > 1]


def _clip(a: Xy, b: Xy) -> tuple[Xy, Xy] | None:
    (x0, y0), (x1, y1) = a, b
    if max(y0, y1) < TOP or min(y0, y1) > HEIGHT - BOTTOM:
        return None

    def cut(y: float, edge: float) -> float:
        return x0 + (x1 - x0) * (edge - y0) / (y1 - y0) if y1 != y0 else x0

    def inside(x: float, y: float) -> Xy:
        if y < TOP:
            return cut(y, TOP), TOP
        if y > HEIGHT - BOTTOM:
            return cut(y, HEIGHT - BOTTOM), HEIGHT - BOTTOM
        return x, y

    return inside(x0, y0), inside(x1, y1)


def _legend(canvas: Canvas, series: Sequence[Series]) -> None:
    at = float(WIDTH - RIGHT)
    for i, one in reversed(list(enumerate(series))):
        if not one.label:
            continue
        at -= canvas.width(one.label, 14)
        canvas.text((at, TOP - 28), one.label, 14, INK)
        color = one.color or COLORS[i % len(COLORS)]
        dash = (6.0, 4.0) if one.dashed else None
        canvas.line([(at - 34, TOP - 28), (at - 8, TOP - 28)], color, max(2.5, one.width), dash=dash)
        at -= 58


def _box(x: float, y: float, wide: float, tall: float) -> list[Xy]:
    return [(x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall)]
