"""A piece of the screen that is drawn from plain lines. Only rows that changed go to the terminal, which is most of what keeps it cheap."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from sitter.tui.lines import Line, Span, fit, line_width, spread, to_ascii
from sitter.tui.palette import Palette
from sitter.tui.view import View


class Panel(Widget):
    """Subclasses say ``content``; long content scrolls. ``follow`` keeps to the end, as a log does.

    Text goes out as segments and never as markup, so what a run's author or a stranger wrote cannot be an instruction to the screen.
    """

    TITLE: ClassVar[str] = ""
    HELP: ClassVar[str] = ""
    SIZE: ClassVar[int] = 6
    """Rows it would like to have on a wide screen, title included; 0 = whatever is left."""
    follow: ClassVar[bool] = False
    can_focus = False

    def __init__(self, id: str) -> None:  # noqa: A002 — Textual's own word
        super().__init__(id=id)
        self.styles.width, self.styles.height = "100%", "100%"
        self.drawn: list[Line] = []
        self.number = 0
        self.chosen = False
        self.scroll = 0
        self.furthest = 0

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """Lines to show, as many as there are: none, unless a panel has some. ``height`` is what is visible of them."""
        return []

    def title(self, view: View, width: int) -> Sequence[Span]:
        """What stands in the title's row beside the name."""
        return []

    def draw(self, view: View, width: int, height: int) -> list[Line]:
        """Exactly ``height`` lines."""
        head: list[Line] = []
        if self.TITLE and height > 1:
            name: Line = [(f"{self.number} ", "key")] if self.number else []
            name += [(self.TITLE, "strong" if self.chosen else "title"), (" ", "")]
            extra = fit(self.title(view, width), max(0, width - line_width(name) - 4))
            rule = "─" * max(0, width - line_width(name) - line_width(extra) - (1 if extra else 0))
            colour = "info" if self.chosen else "rule"
            head = [spread([*name, (rule, colour)], extra, width) if extra else [*name, (rule, colour)]]
            height -= 1
        body = self.content(view, width, height)
        self.furthest = max(0, len(body) - height)
        self.scroll = min(self.scroll, self.furthest)
        first = self.furthest - self.scroll if self.follow else self.scroll
        shown = body[first : first + height]
        if self.scroll and shown:
            shown[0 if not self.follow else -1] = spread(shown[0 if not self.follow else -1], [(" ↕ ", "key")], width)
        shown += [[] for _ in range(height - len(shown))]
        return [*head, *shown]

    def scrolled(self, rows: int) -> None:
        """Move by so many rows; positive is towards what is further away (older, in a log that follows its end)."""
        self.scroll = min(max(0, self.scroll + rows), self.furthest)

    def on_resize(self) -> None:
        """Draw for the new size at once."""
        self.show(self.app.view)  # type: ignore[attr-defined]

    def show(self, view: View) -> None:
        """Draw anew; only rows that differ are sent."""
        width, height = self.size
        if not width or not height:
            return
        lines = [fit(line, width) for line in self.draw(view, width, height)]
        if view.ascii:
            lines = [[(to_ascii(text), style) for text, style in line] for line in lines]
        old, self.drawn = self.drawn, lines
        if len(old) != len(lines):
            self.refresh()
            return
        changed = [Region(0, y, width, 1) for y, line in enumerate(lines) if line != old[y]]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """One row for the terminal."""
        look: Palette = self.app.look  # type: ignore[attr-defined]
        width = self.size.width
        if y >= len(self.drawn):
            return Strip.blank(width, look.style(""))
        line = self.drawn[y]
        segments = [Segment(text, look.style(style)) for text, style in line if text]
        rest = width - line_width(line)
        if rest > 0:
            tail = line[-1][1] if line and line[-1][1].startswith("strip-") else ""
            segments.append(Segment(" " * rest, look.style(tail)))
        return Strip(segments, width)
