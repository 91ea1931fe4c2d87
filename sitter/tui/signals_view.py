"""Every signal at once, small: a name, the last value, a line."""

from collections.abc import Sequence

from sitter.model import Curve, SignalNow
from sitter.tui import formats
from sitter.tui.braille import Layer, compose, runs
from sitter.tui.lines import Line, fit, line_width, plain, spread
from sitter.tui.panel import Panel
from sitter.tui.scale import Scale, finite, padded
from sitter.tui.view import View
from sitter_wire.layer_names import of_layer

CELL_WIDTH, CELL_HEIGHT, TALLEST = 34, 6, 14
"""Columns and rows of one small chart at least, a blank row between included; rows at most, where there is room."""

_FIRST = ("loss", "val_loss", "lr", "grad_norm")


class SignalsView(Panel):
    """A grid; arrows choose, Enter enlarges, `/` filters."""

    TITLE = "signals"
    HELP = (
        "Every signal with its last value over the whole run; the scale of each is its own, its lowest and highest value "
        "stand at the sides. / filters by name, arrows choose, Enter enlarges, Esc goes back."
    )

    def title(self, view: View, width: int) -> Line:
        """How many there are."""
        names = shown(view)
        every = len(view.status.signals) if view.status else 0
        count = f"{len(names)} of {every}" if view.find else str(every)
        keys = (("←→↑↓", "choose"), ("Enter", "enlarges"), ("/", "filters"))
        return [(f"{count} ", "dim"), *(span for key, word in keys for span in ((f" {key}", "key"), (f" {word}", "dim")))]

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """The grid, scrolled so that the chosen one is visible."""
        names = shown(view)
        if not names:
            return [[(f"no signal matches {view.find!r}" if view.find else "no signal has been logged yet", "dim")]]
        across = columns(width)
        cell = width // across
        tall = max(CELL_HEIGHT, min(TALLEST, height // -(-len(names) // across)))
        curves: dict[str, Curve] = {}
        for curve in view.multiples.curves if view.multiples else []:
            if not curve.abandoned:
                curves.setdefault(curve.signal, curve)
        out: list[Line] = []
        chosen = min(view.multiple_at, len(names) - 1)
        for start in range(0, len(names), across):
            row = [
                small(name, curves.get(name), view.status.signals.get(name) if view.status else None, cell - 2, tall - 1,
                      chosen=start + i == chosen, ascii=view.ascii)
                for i, name in enumerate(names[start : start + across])
            ]  # fmt: skip
            for lines in zip(*row, strict=True):
                joined: Line = []
                for line in lines:
                    joined += [*line, (" " * (cell - line_width(line)), "")]
                out.append(joined)
            out.append([])
        top = chosen // across * tall
        if not self.scroll <= top <= self.scroll + height - tall + 1:
            self.scroll = max(0, min(top, len(out) - height))
        return out


def columns(width: int) -> int:
    """Small charts side by side."""
    return max(1, width // CELL_WIDTH)


def shown(view: View) -> list[str]:
    """Names in their order: what matters for every run first, then by the alphabet, the many of the model's layers last and in the model's
    order; only those that match."""
    names = view.status.signals if view.status else {}
    goal = view.status.goal.name if view.status and view.status.goal else None
    first = [n for n in dict.fromkeys([*_FIRST, goal]) if n in names]
    layers = sorted((n for n in names if of_layer(n)), key=lambda n: n.partition(".")[0])
    ordered = [*first, *sorted(n for n in names if n not in first and not of_layer(n)), *layers]
    words = view.find.lower().split()
    return [n for n in ordered if all(w in n.lower() for w in words)]


def small(name: str, curve: Curve | None, now: SignalNow | None, width: int, height: int, *, chosen: bool, ascii: bool) -> list[Line]:  # noqa: A002
    """One chart in ``height`` rows: a title, then the line between its lowest and highest value."""
    last = (formats.rate if name == "lr" else formats.value)(now.last if now else None)
    bad = now is not None and now.last - now.last != 0  # nan or inf
    label = fit([("▸ " if chosen else "  ", "key"), (plain(name), "strong" if chosen else "title")], max(4, width - len(last) - 1))
    out = [spread(label, [(last, "bad" if bad else "loss")], width)]
    values = finite(curve.mean) if curve else []
    rows = height - 1
    if curve is None or not values:
        return [*out, [("  no finite value" if curve else "  –", "dim")], *([] for _ in range(rows - 1))]
    low, high = min(values), max(values)
    digits = next((n for n in (3, 4, 5) if formats.value(high, n) != formats.value(low, n)), 3)
    texts = [formats.value(high, digits), formats.value(low, digits)]
    gutter = max(map(len, texts))
    cells = max(2, width - gutter - 1)
    bottom, top = padded(low, high)
    scale = Scale(bottom, top, 4 * rows)
    layer = Layer(cells, rows, "loss" if name == "loss" else "goal" if name.startswith("val") else "lr" if name == "lr" else "info", "*")
    layer.path(_dots(curve, cells, scale))
    chars, styles = compose([layer], cells, rows, ascii=ascii)
    for row in range(rows):
        text = texts[0] if row == 0 else texts[1] if row == rows - 1 else ""
        out.append([(text.rjust(gutter), "dim"), ("│", "rule"), *runs(chars[row], styles[row])])
    return out


def _dots(curve: Curve, cells: int, scale: Scale) -> Sequence[tuple[int, float]]:
    known = [x for x in curve.x if x - x == 0]
    if not known:
        return []
    lo, hi = known[0], known[-1]
    per = (2 * cells - 1) / (hi - lo) if hi > lo else 0.0
    points = ((x, scale.at(v)) for x, v in zip(curve.x, curve.mean, strict=False) if x - x == 0)
    return [(round((x - lo) * per), row) for x, row in points if row is not None]
