"""Where everything stands, as plain rectangles: decided by the size of the terminal and by what is to be seen."""

from collections.abc import Mapping
from typing import NamedTuple

WIDE, TALL = 140, 30
"""Columns and body rows from which the panels stand beside the chart."""


class Box(NamedTuple):
    """Columns and rows from the top left corner."""

    x: int
    y: int
    width: int
    height: int


class Wish(NamedTuple):
    """What is to be seen. ``body``: ``home``, ``signals``, ``help``, ``signal`` or an enlarged panel's id. ``panel``: the chosen one."""

    body: str = "home"
    panel: str | None = None
    strip_rows: int = 1
    since_rows: int = 0
    command: bool = False


def is_wide(width: int, height: int) -> bool:
    """Whether the panels stand beside the chart."""
    return width >= WIDE and height - 5 >= TALL


def plan(width: int, height: int, wish: Wish, sizes: Mapping[str, int]) -> dict[str, Box]:
    """Boxes by widget id; what is not in it is not shown. ``sizes``: rows each panel would like (0 = the rest), in the panels' order."""
    out: dict[str, Box] = {}
    y = 0

    def row(name: str, rows: int) -> None:
        nonlocal y
        rows = min(rows, height - y - bottom)
        if rows > 0:
            out[name] = Box(0, y, width, rows)
            y += rows

    bottom = 1 if height >= 6 else 0
    row("header", 2 if height >= 8 else 1)
    if wish.command and y < height - bottom:
        out["prompt"], out["command"] = Box(0, y, 2, 1), Box(2, y, max(1, width - 2), 1)
        y += 1
    row("strip", min(wish.strip_rows, max(1, height // 4)))
    if height >= 14:
        row("since", wish.since_rows)
    area = height - y - bottom
    if bottom:
        out["footer"] = Box(0, height - 1, width, 1)
    if area <= 0:
        return out
    if wish.body != "home":
        out["chart" if wish.body == "signal" else wish.body] = Box(0, y, width, area)
    elif is_wide(width, height):
        out |= _wide(y, width, area, sizes)
    else:
        out |= _narrow(y, width, area, wish.panel)
    return out


def _narrow(y: int, width: int, area: int, panel: str | None) -> dict[str, Box]:
    """The chart, and below it a glance or the panel that was chosen."""
    if area < 10:
        return {panel or "chart": Box(0, y, width, area)}
    below = max(5, area * 9 // 20) if panel else max(3, min(area // 4, 10))
    return {"chart": Box(0, y, width, area - below), panel or "glance": Box(0, y + area - below, width, below)}


def _wide(y: int, width: int, area: int, sizes: Mapping[str, int]) -> dict[str, Box]:
    """Chart and logbook at the left, the rest stacked at the right, a blank row and two blank columns between."""
    right = min(90, width * 2 // 5)
    left = width - right - 2
    below = max(10, area * 3 // 10)
    out = {"chart": Box(0, y, left, area - below - 1), "logbook": Box(0, y + area - below, left, below)}
    stack = [(name, rows) for name, rows in sizes.items() if name != "logbook"]
    at, rest = y, area
    for i, (name, rows) in enumerate(stack):
        last = i == len(stack) - 1
        keep = 4 * (len(stack) - 1 - i)
        rows = rest if last or not rows else max(2, min(rows, rest - keep))
        if rest < 2:
            break
        out[name] = Box(left + 2, at, right, rows)
        at, rest = at + rows + 1, rest - rows - 1
    return out
