"""``Since you left (8 h 12 m): +41,300 steps, loss 2.91 → 2.86 …``: the first thing on attaching."""

import msgspec

from sitter.clock import human
from sitter.model import Since
from sitter.tui import formats
from sitter.tui.lines import Line, plain, wrap
from sitter.tui.panel import Panel
from sitter.tui.questions import ended
from sitter.tui.view import View


class SincePanel(Panel):
    """One sentence, as many rows as it takes. Any key puts it away, w brings it back."""

    HELP = "What happened since you last looked. Esc puts it away, w brings it back."

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """The sentence, its beginning marked."""
        return lines(view, width)


def lines(view: View, width: int) -> list[Line]:
    """The sentence in rows; none where there is nothing to say."""
    if view.since is None:
        return []
    ends_at = view.since.ends_at if view.since.ends_at is not None or view.status is None else view.status.ends_at
    since = msgspec.structs.replace(view.since, ends_at=ends_at)  # what happened is the history's to know, the end the daemon's
    first, *rest = wrap(sentence(since, view.now, view.status.state if view.status and ended(view) else ""), width - 2, indent="  ")
    head, colon, tail = first.partition(":")
    return [[(f" {head}{colon}", "title"), (tail, "")], *([(f" {row}", "")] for row in rest)]


def sentence(since: Since, now: float, over: str = "") -> str:
    """Unknown figures are left out of the sentence, but for the end. ``over``: how it has ended, where it has."""
    parts = [f"{since.steps:+,} steps"]
    if any(v is not None for v in since.loss):
        parts.append(f"loss {_pair(since.loss)}")
    if since.goal_name and since.goal_name != "loss" and any(v is not None for v in since.goal):
        parts.append(f"{plain(since.goal_name)} {_pair(since.goal)}")
    if since.incidents:
        noun = "incident" if since.incidents == 1 else "incidents"
        open_ = since.incidents - since.healed
        parts.append(f"{since.incidents} {noun} " + ("healed" if not open_ else f"({since.healed} healed, {open_} open)"))
    else:
        parts.append("no incident")
    if since.steps_lost:
        parts.append(f"{since.steps_lost:,} steps lost")
    if since.gpu_idle is not None:
        parts.append(f"GPU idle {formats.percent(since.gpu_idle, 1)}")
    parts.append(over or f"ends {formats.end_time(since.ends_at, now)}")
    return f"Since you left ({human(since.seconds)}): {', '.join(parts)}"


def _pair(pair: tuple[float | None, float | None]) -> str:
    return f"{formats.value(pair[0])} → {formats.value(pair[1])}"
