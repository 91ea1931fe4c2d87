"""The chart on the screen: keeps its last drawing while nothing changed."""

from sitter.model import Curve, Curves
from sitter.tui.chart import Look, draw
from sitter.tui.lines import Line
from sitter.tui.panel import Panel
from sitter.tui.view import View


class ChartPanel(Panel):
    """Loss with its band, the goal above, the rate below."""

    HELP = (
        "The blue line is the loss, smoothed; the band behind it the lowest and highest value in each column, so no spike"
        " is hidden. Orange is the goal, violet below it the rate. ◆ checkpoint, ▼ knob, ↺ restored, ↻ started again, ✖ incident,"
        " ✎ note; a red × at the top marks nan or inf; dim red is what a restore left behind; dashed is the run given by --ref. x "
        "changes the axis, y the height (recent leaves out the first 6 %, where a loss falls most), b the band, + - zoom,"
        " ← → move, 0 shows all."
    )

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._key: tuple[object, ...] = ()
        self._kept: list[Line] = []

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """The drawing, made anew only when what it shows has changed."""
        look = look_of(view)
        key = (id(view.curves), look, width, height)
        if key != self._key or view.curves is None:
            self._key, self._kept = key, draw(view.curves, look, width, height, view.ref)
        return self._kept


def look_of(view: View) -> Look:
    """How the chart is to be seen, from what the operator chose and what the run says."""
    if view.enlarged and view.enlarged.startswith("signal:"):
        name = view.enlarged.removeprefix("signal:")
        return Look(main=name, axis=view.axis, per_epoch=view.per_epoch, y=view.y, band=view.band, ascii=view.ascii)
    goal = view.goal_signal
    return Look(
        main=view.main_signal, goal=goal, own_axis=own_axis(view.main_signal, goal, view.curves), axis=view.axis,
        per_epoch=view.per_epoch, y=view.y, band=view.band, ascii=view.ascii,
    )  # fmt: skip


def own_axis(main: str, goal: str | None, curves: Curves | None) -> bool:
    """Whether the goal needs one: an accuracy beside a loss does; two losses, or values of one size, share."""
    if goal is None or curves is None:
        return False
    if "loss" in main or "loss" in goal:
        return not ("loss" in main and "loss" in goal)
    return not _alike(_last(curves.curves, main), _last(curves.curves, goal))


def _last(curves: list[Curve], name: str) -> float | None:
    values = [v for c in curves if c.signal == name and not c.abandoned for v in c.mean if v == v]
    return values[-1] if values else None


def _alike(a: float | None, b: float | None) -> bool:
    return a is None or b is None or (a * b > 0 and 0.5 < a / b < 2)
