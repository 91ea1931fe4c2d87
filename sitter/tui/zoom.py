"""Which part of the x axis is seen. ``span`` None is all of it; ``end`` None follows the run."""

from sitter.tui.chart import Axis
from sitter.tui.view import View

SMALLEST = {"step": 20.0, "epoch": 20.0, "hours": 0.005}
"""Steps or hours below which zooming in shows nothing more."""


def axes(view: View) -> list[Axis]:
    """The ones this run has: epochs only where the training counts them."""
    return ["step", "epoch", "hours"] if view.per_epoch else ["step", "hours"]


def last(view: View) -> float | None:
    """Where the axis ends now: the present step, or the hours since the run began."""
    status = view.status
    if status is None:
        return None
    if view.axis == "hours":
        return max(0.0, (view.now - status.started) / 3600) if status.started is not None else None
    return None if status.step is None else float(status.step)


def bounds(view: View) -> tuple[float | None, float | None]:
    """``lo`` and ``hi`` as GetCurves takes them."""
    end = last(view)
    if view.span is None or end is None:
        return None, None
    hi = end if view.end is None else view.end
    return max(0.0, hi - view.span), None if view.end is None else hi


def zoom_in(view: View) -> None:
    """Half of what is seen, the end kept."""
    end = last(view)
    if end:
        view.span = max(SMALLEST[view.axis], (view.span or end) / 2)


def zoom_out(view: View) -> None:
    """Twice as much."""
    end = last(view)
    if view.span is not None and end:
        view.span *= 2
        if view.span >= end:
            view.span = view.end = None
        elif view.end is not None:
            view.end = min(end, max(view.end, view.span))


def pan(view: View, way: int) -> None:
    """A quarter of what is seen, towards the past (-1) or the present (1); at the present it follows again."""
    end = last(view)
    if view.span is None or not end:
        return
    hi = (end if view.end is None else view.end) + way * view.span / 4
    view.end = None if hi >= end else max(view.span, hi)
