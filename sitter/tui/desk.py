"""The one widget that holds all others, each where the plan says."""

from textual.geometry import NULL_OFFSET, Region, Size, Spacing
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.widget import Widget

from sitter.tui.plan import Box


class _Planned(Layout):
    """Puts widgets where the plan says."""

    name = "planned"

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        """A placement for each child that has a box."""
        return [
            WidgetPlacement(Region(*self.boxes[child.id]), NULL_OFFSET, Spacing(), child)
            for child in children
            if child.id in self.boxes
        ]


class Desk(Widget):
    """Holds everything."""

    DEFAULT_CSS = "Desk { width: 100%; height: 100%; overflow: hidden; }"

    def __init__(self) -> None:
        super().__init__(id="desk")
        self.planned = _Planned()

    @property
    def layout(self) -> Layout:
        """Ours."""
        return self.planned
