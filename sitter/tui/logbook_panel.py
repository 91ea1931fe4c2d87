"""The logbook: what was seen, decided, done, and what came of it."""

from sitter.model import LogEntry
from sitter.tui import formats
from sitter.tui.lines import Line, plain, wrap
from sitter.tui.panel import Panel
from sitter.tui.view import View

SIGNS = {
    "finding": ("▲", "warn"), "proposal": ("?", "warn"), "command": ("▸", "info"), "outcome": ("✔", "good"), "incident": ("✖", "bad"),
    "checkpoint": ("◆", "m-checkpoint"), "note": ("✎", "m-note"), "restart": ("↻", "info"),
}  # fmt: skip


SPEAKERS = ("operator", "info", "started")
"""Of notes: who says it, where the detail says the rest."""


class LogbookPanel(Panel):
    """Newest first; `/` finds."""

    TITLE = "logbook"
    HELP = (
        "What happened, newest first: ▲ finding, ? proposal, ▸ command, ✔ outcome, ✖ incident, ◆ checkpoint, ✎ note, ↻ "
        "restart. / finds, `:note TEXT` writes a line of your own, Enter enlarges and shows everything in full."
    )
    SIZE = 0

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """A line each; in full where the panel is enlarged."""
        found = [e for e in view.entries if matches(e, view.find)]
        if not found:
            return [[(f"nothing matches {view.find!r}" if view.find else "nothing has happened yet", "dim")]]
        out: list[Line] = []
        whole = view.enlarged == self.id
        for entry in reversed(found):
            out.extend(entry_lines(entry, view.now, width, whole=whole))
        return out


def matches(entry: LogEntry, find: str) -> bool:
    """Whether every word of ``find`` stands somewhere in the entry."""
    text = f"{entry.kind} {entry.rule} {entry.action} {entry.status} {entry.detail} {entry.step}".lower()
    return all(word in text for word in find.lower().split())


def entry_lines(entry: LogEntry, now: float, width: int, *, whole: bool = False) -> list[Line]:
    """Time, sign, step and what it says."""
    sign, style = SIGNS.get(entry.kind, ("·", "dim"))
    if entry.kind == "incident" and (entry.status or "").startswith("recovered"):
        sign, style = SIGNS["outcome"]
    if entry.status in ("rejected", "expired", "unanswered", "vetoed", "skipped") or (entry.kind == "outcome" and entry.status == "failed"):
        sign, style = "✘", "bad"
    head: Line = [(f"{formats.clock_time(entry.time, now):>9} ", "dim"), (f"{sign} ", style)]
    if entry.step is not None:
        head.append((f"{entry.step:>9,} ", "dim"))
    words = [w for w in (entry.rule, entry.action, entry.status) if w] if whole or not entry.detail else []
    text = plain(" · ".join([*words, *([entry.detail] if entry.detail else [])]) or entry.kind)
    # a detail that cannot stand alone is told what it is about, unless it says so itself
    about = entry.action if entry.kind == "command" else entry.status if entry.kind in ("outcome", "checkpoint", "note") else None
    if about and not words and about not in text and about not in SPEAKERS:
        text = f"{plain(about)}: {text}"
    if not whole:
        return [[*head, (text, "")]]
    indent = sum(len(t) for t, _ in head)
    first, *rest = wrap(text, max(12, width - indent))
    return [[*head, (first, "")], *([(" " * indent + line, "")] for line in rest)]
