"""``?``: what is on the screen, in the order in which it stands there, then every key."""

from collections.abc import Sequence

from sitter import grammar
from sitter.tui.keys import ACT, KEYS, LEAVE, LOOK, MOVE
from sitter.tui.lines import Line, wrap
from sitter.tui.panel import Panel
from sitter.tui.view import View


class HelpScreen(Panel):
    """Explains the panels that were visible when it was opened."""

    TITLE = "help"
    HELP = "This page."

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.about: Sequence[Panel] = ()

    def title(self, view: View, width: int) -> Line:
        """How to get out again."""
        return [("↑↓", "key"), (" scroll  ", "dim"), ("Esc", "key"), (" back", "dim")]

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """Keys first, since that is what one looks for; then what stands where; then the language of `:`."""
        out: list[Line] = []
        for group, words in ((ACT, "capitals act"), (LOOK, "small letters look"), (MOVE, "move about"), (LEAVE, "leave")):
            out.append([(words, "title")])
            out.extend(_keys([(k.shown, k.label) for k in KEYS if k.group == group], width))
        for panel in self.about:
            if panel.HELP:
                name = panel.TITLE or type(panel).__name__.removesuffix("Panel").lower()
                out.append([])
                out.append([(name, "title")])
                out.extend([("  " + row, "")] for row in wrap(panel.HELP, min(width - 3, 110)))
        out.append([])
        out.append([("after : (the same words as on the command line, Tab completes, ↑ brings back)", "title")])
        out.extend([("  " + usage, "")] for usage in grammar.USAGE.values())
        return out


def _keys(pairs: Sequence[tuple[str, str]], width: int) -> list[Line]:
    """In as many columns as fit."""
    across = max(1, (width - 2) // 40)
    rows = -(-len(pairs) // across)
    out: list[Line] = []
    for row in range(rows):
        line: Line = [("  ", "")]
        for shown, label in pairs[row::rows]:
            line += [(f"{shown:>9} ", "key"), (f"{label[:29]:<30}", "")]
        out.append(line)
    return out
