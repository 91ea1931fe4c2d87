"""The sign before what is typed."""

from sitter.tui.lines import Line
from sitter.tui.panel import Panel
from sitter.tui.view import View


class Prompt(Panel):
    """``:`` or ``/``."""

    kind = ":"

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """One sign."""
        return [[(self.kind + " ", "input")]]
