"""What lies on disk and can be gone back to."""

from sitter.clock import human
from sitter.model import CheckpointInfo
from sitter.tui import formats
from sitter.tui.lines import Line, pack, plain
from sitter.tui.panel import Panel
from sitter.tui.view import View


class CheckpointsPanel(Panel):
    """Newest first."""

    TITLE = "checkpoints"
    HELP = (
        "Step-branch, age and size of each checkpoint, newest first. good: enough healthy steps followed it; verified: "
        "read back; best: best by the goal; pinned: never deleted. C writes one now, R goes back to the newest good "
        "state."
    )
    SIZE = 7

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """A line each."""
        if view.status is None:
            return [[("–", "dim")]]
        found = sorted(view.status.checkpoints, key=lambda c: (c.time or 0.0, c.step), reverse=True)
        if not found:
            return [[("none yet", "dim")]]
        lines = [checkpoint_line(c, view.now, width, whole=view.enlarged == self.id) for c in found]
        total = sum(c.bytes for c in found)
        return [*lines, [(f"together {formats.giga(total)}", "dim")]]


def checkpoint_line(c: CheckpointInfo, now: float, width: int, *, whole: bool = False) -> Line:
    """One of them; ``whole`` adds the path."""
    name = f"{c.step:,}-{c.branch}"
    flags: Line = [("good" if c.good else "not yet good", "good" if c.good else "warn")]
    flags.append((" verified" if c.verified else " not verified", "dim" if c.verified else "bad"))
    if c.best:
        flags.append((" ★ best", "goal"))
    if c.pinned:
        flags.append((" pinned", "info"))
    age = formats.UNKNOWN if c.time is None else f"{human(max(0.0, now - c.time))} ago"
    pieces: list[tuple[int, Line]] = [
        (0, [("◆ ", "m-checkpoint"), (f"{name:<12}", "strong")]), (1, flags), (2, [(age, "dim")]), (3, [(formats.giga(c.bytes), "dim")]),
    ]  # fmt: skip
    if whole:
        pieces.append((4, [(plain(c.path), "dim")]))
    return pack(pieces, width)
