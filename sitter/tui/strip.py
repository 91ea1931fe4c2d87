"""The strip under the header: what is asked of the operator, what waits with its countdown, and what became of the last demand."""

from sitter import grammar
from sitter.model import LogEntry, Proposal, Status
from sitter.tui import formats
from sitter.tui.lines import Line, Span, fit, line_width, plain, spread, wrap
from sitter.tui.panel import Panel
from sitter.tui.questions import ended
from sitter.tui.view import Deed, View

SHOWN_S = 20.0
"""How long an outcome stays, or until Escape."""
RESUME = {
    "crashed": "`sitter resume` goes on from its newest good checkpoint; 5 shows its last words",
    "preempted": "`sitter resume` goes on from its newest checkpoint; 5 shows its last words",
}
STALLED = "stalled"
"""The rule that says why a training makes no step."""

_DEED = {
    "sent": ("…", "strip-info", "sent, waiting for the outcome"), "applied": ("✔", "strip-good", "applied"),
    "rejected": ("✘", "strip-bad", "rejected"), "expired": ("✘", "strip-bad", "expired"),
    "unanswered": ("✘", "strip-bad", "not answered; can no longer start"), "refused": ("✘", "strip-bad", "nothing done"),
}  # fmt: skip
_SEVERITY = {"info": "strip-info", "warning": "strip-warn", "critical": "strip-warn"}


class Strip(Panel):
    """At least one row: a question, outcomes, the proposal, else a quiet word."""

    HELP = (
        "This row says what waits for you. A proposal with a countdown is done when it runs out: V vetoes it, A does it "
        "at once. One without waits for A or V. Tab shows the next. After a demand its outcome stands here as the "
        "training process said it: applied @step, rejected and why, expired, or not answered."
    )

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """The rows."""
        return lines(view, width)


def lines(view: View, width: int) -> list[Line]:
    """What the strip says, most pressing first; never empty."""
    out: list[Line] = []
    if view.question is not None:
        out.extend(_question(view, width))
    elif view.command_hint:
        out.append([(" " + view.command_hint, "strip-bad" if view.command_wrong else "strip-info")])
    for deed in recent(view):
        out.extend(_deed(deed, width))
    if view.proposal is not None:
        out.extend(_proposal(view, view.proposal, width))
    return [fit(line, width) for line in out or _quiet(view, width)]


def recent(view: View) -> list[Deed]:
    """At most two deeds that are under way or ended just now."""
    return [d for d in view.deeds if d.ended is None or view.now - d.ended < SHOWN_S][-2:]


def _question(view: View, width: int) -> list[Line]:
    question = view.question
    if question is None:
        return []
    keys: Line = []
    for choice in question.choices:
        keys += [(f" {choice.key} ", "strip-key"), (f"{choice.label}  ", "strip-warn")]
    keys += [(" Esc ", "strip-key"), ("leaves it ", "strip-warn")]
    text: Line = [(f" {question.text} ", "strip-warn")]
    if line_width(text) + line_width(keys) <= width:
        return [[*text, *keys]]
    return [text, keys]


def _deed(deed: Deed, width: int) -> list[Line]:
    sign, style, word = _DEED[deed.status]
    at = f" @{deed.step:,}" if deed.status == "applied" and deed.step is not None else ""
    said = plain(deed.text)
    if deed.status in ("unanswered", "refused") and said:
        word = said if deed.status == "refused" else f"not answered: {said}"
        said = ""
    text = f"{sign} {plain(deed.words)}: {word}{at}" + (f": {said}" if said else "")
    return [[(f" {row} ", style)] for row in _first(wrap(text, width - 2, indent="  "), 3, width - 2)]


def _proposal(view: View, proposal: Proposal, width: int) -> list[Line]:
    finding = proposal.finding
    style = "strip-bad" if finding.severity == "critical" else _SEVERITY[finding.severity]
    what = grammar.proposed(finding) or "nothing"
    waiting = view.proposals
    which = f"{waiting.index(proposal) + 1}/{len(waiting)} Tab  " if len(waiting) > 1 else ""
    saw: Line = [(f" ⚠ {which}{plain(finding.rule)}: {plain(proposal.said())}", style)]
    does: Line = [(f" → {plain(what)}", style)]
    if view.lost_since is not None:
        keys: Line = [(" waits for the daemon ", style)]
    elif ended(view):
        keys = [(" waits for the training ", style)]
    elif proposal.due is None:
        keys = [(" A ", "strip-key"), ("approves  ", style), (" V ", "strip-key"), ("vetoes ", style)]
    else:
        keys = [(f" in {formats.countdown(proposal.due - view.now)}  ", style), (" V ", "strip-key"), ("vetoes  ", style)]
        keys += [(" A ", "strip-key"), ("now ", style)]
    if line_width(saw) + line_width(does) + line_width(keys) <= width:
        return [_filled([*saw, *does], keys, width, style)]
    # the reason may be cut, the keys never
    return [fit(saw, width), _filled(does, keys, width, style)]


def _filled(left: Line, right: Line, width: int, style: str) -> Line:
    return [(text, name or style) for text, name in spread(left, right, width)]


def _quiet(view: View, width: int) -> list[Line]:
    """Nothing was asked: what is not well in two rows, why it stands still or died in three, else a calm word and what happened last."""
    status = view.status
    if view.lost_since is not None and status is not None:
        at = formats.clock_time(view.status_at, view.now)
        return _wrapped(f"all figures are of {at}; the training needs no daemon, and records what it logs", width, "warn")
    if view.trouble:
        return _wrapped(plain(view.trouble), width, "warn")
    if status is None:
        return [[]]
    if why := _stands(view, status):
        return _wrapped(why, width, "bad", rows=3)
    if why := _died(view, status):
        return [*_wrapped(why, width, "bad"), *_wrapped(RESUME[status.state], width, "bad", rows=1)]
    needed = _needed(status)
    if needed:
        return _wrapped(needed, width, "bad")
    if status.warnings:
        more = f" (+{len(status.warnings) - 1})" if len(status.warnings) > 1 else ""
        return _wrapped(f"⚠ {plain(status.warnings[0])}{more}", width, "warn")
    calm = "nothing waits for you"
    last = next((e for e in reversed(view.entries) if e.kind in ("incident", "outcome", "finding")), None)
    right: Line = []
    if last is not None:
        right = [(f"last: {_said(last, view.now)} ", "dim")]
    left: list[Span] = [(f" {calm} ", "dim")]
    return [spread(left, fit(right, max(0, width - line_width(left) - 2)), width)]


def _wrapped(text: str, width: int, style: str, rows: int = 2) -> list[Line]:
    return [[(f" {row}", style)] for row in _first(wrap(text, width - 1, indent="  "), rows, width - 1)]


def _first(rows: list[str], most: int, width: int) -> list[str]:
    """As many as there is room for; that there were more is seen."""
    if len(rows) <= most:
        return rows
    return [*rows[: most - 1], "".join(text for text, _ in fit([(f"{rows[most - 1]} {rows[most].strip()}", "")], width))]


def _stands(view: View, status: Status) -> str:
    """Why a training makes no step, and on which line, as the rule has found it; empty where it makes steps, or nobody knows yet."""
    if status.state not in ("stalled", "hung"):
        return ""
    said = next((e for e in reversed(view.entries) if e.rule == STALLED), None)
    return plain(said.detail) if said is not None and said.kind == "finding" and said.status != "info" else ""


def _died(view: View, status: Status) -> str:
    """How a training ended that may go on: the logbook's sentence, which begins with the run's name; empty where it is not there yet."""
    if status.state not in RESUME:
        return ""
    told = f"{status.run}: {status.state} "
    said = next((e for e in reversed(view.entries) if e.status == status.state and e.detail.startswith(told)), None)
    return plain(said.detail.removeprefix(f"{status.run}: ")) if said is not None else ""


def _needed(status: Status) -> str:
    """Why the verdict calls for somebody although nothing is proposed; empty where it does not."""
    if status.verdict not in ("NEEDS YOU", "DEAD"):
        return ""
    match status.state:
        case "crashed" | "preempted":
            return f"{status.state}: {RESUME[status.state]}"
        case "hung":
            return "the training process does not answer; why, the logbook (4) will say in a moment, S ends it"
        case "stalled":
            return "no step is done any more; why, the logbook (4) will say in a moment, and 5 what it printed last"
        case "finished":
            return "finished, but its last loss is not a finite number: the logbook (4) says when that began"
        case _ if status.blind:
            return f"the guard is blind: {plain(status.blind)}"
    return ""


def _said(entry: LogEntry, now: float) -> str:
    return f"{formats.clock_time(entry.time, now)} {plain(entry.detail or entry.action or entry.kind)}"
