"""The last row: the keys that matter here and now."""

from sitter.tui.keys import KEYS
from sitter.tui.lines import Line, pack, plain
from sitter.tui.panel import Panel
from sitter.tui.view import View


class Footer(Panel):
    """Made from the list of keys, so it cannot promise one that does nothing."""

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """One line."""
        pieces: list[tuple[int, Line]] = []
        if view.find:
            pieces.append((0, [("/", "key"), (plain(view.find), "warn"), (" Esc clears", "dim")]))
        for key in KEYS:
            if key.rank >= 9:
                continue
            label = key.brief if key.brief and width < 100 else key.label
            if key.method == "pause" and view.status and view.status.state == "paused":
                label = "unpause"
            pieces.append((key.rank, [(key.shown, "key"), (f" {label}", "dim")]))
        return [pack(pieces, width)]
