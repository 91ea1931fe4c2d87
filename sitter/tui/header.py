"""Two rows that answer in two seconds: is it well, does it need me."""

import math

from sitter.model import KnobNow, Status
from sitter.supervise.death import signal_name
from sitter.tui import formats
from sitter.tui.lines import Line, Span, line_width, pack, plain
from sitter.tui.panel import Panel
from sitter.tui.view import AGENT_SILENT_S, View

BADGES = {
    "OK": (" ● OK ", "badge-good"), "HEALING": (" ◐ HEALING ", "badge-heal"), "NEEDS YOU": (" ▲ NEEDS YOU ", "badge-warn"),
    "DEAD": (" ■ DEAD ", "badge-bad"),
}  # fmt: skip
STEEP = 1.0
"""Of the loss in 1,000 steps: from here on, as in the first steps of a run, a share says nothing that a person could picture."""
_STATE_STYLE = {"running": "good", "finished": "good", "starting": "info", "paused": "warn", "stopped": "warn", "preempted": "warn"}


class Header(Panel):
    """The verdict line and the figures under it."""

    HELP = (
        "The verdict: OK, HEALING (the guard is at work), NEEDS YOU (something waits for an answer), DEAD. Then run, "
        "state, step, when it ends, mode. Under it the goal with its best value, the loss and how it moves per 1,000 "
        "steps, the rate as scheduled × scale = effective, speed, and the share of time spent waiting for data. – is "
        "unknown."
    )

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """Two lines."""
        return lines(view, width)


def lines(view: View, width: int) -> list[Line]:
    """The header's two lines; what matters least goes first where there is little room."""
    status = view.status
    if status is None:
        if view.lost_since is None:
            return [[(" … ", "badge-dim"), (f" {plain(view.run_name)}", "strong"), ("  asking the daemon", "dim")], []]
        return [[*_lost(view), ("  ", ""), (plain(view.run_name), "strong")], []]
    return [_first(view, status, width), _second(view, status, width)]


def _lost(view: View) -> Line:
    away = formats.countdown(view.now - (view.lost_since or view.now))
    return [(" ? ", "badge-dim"), (f" daemon lost, looking for it ({away})", "warn")]


def _first(view: View, status: Status, width: int) -> Line:
    step, total = status.step, status.total
    share = step / total if step is not None and total else None
    pieces: list[tuple[int, Line]] = []
    if view.lost_since is not None:
        pieces.append((0, _lost(view)))
    else:
        text, style = BADGES.get(status.verdict, (f" {status.verdict} ", "badge-dim"))
        pieces.append((0, [(text, style)]))
    pieces.append((2, [(plain(status.run), "strong")]))
    state: Line = [(status.state, _STATE_STYLE.get(status.state, "bad"))]
    if status.exit and status.state in ("crashed", "hung", "preempted"):
        ended = signal_name(status.exit.signal) if status.exit.signal else f"exit {formats.count(status.exit.code)}"
        state.append((f" ({ended})", "bad"))
    if status.restart is not None:
        state = [(status.restart.in_words(view.now), "warn")]
    pieces.append((1 if status.state != "running" else 5, state))
    pieces.append((1, [("step ", "dim"), (formats.count(step), "strong"), (f" / {formats.count(total)}", "dim")]))
    at_bar = len(pieces)
    if share is not None:
        pieces.append((4, [(formats.percent(share), "")]))
    if status.ends_at is not None or status.state == "running":
        pieces.append((2, [("ends ", "dim"), (formats.end_time(status.ends_at, view.now), "strong")]))
    if status.blind:
        blind = plain(status.blind)
        pieces.append((1, [(blind if "blind" in blind else f"guard blind: {blind}", "bad")]))
    else:
        pieces.append((3, [("mode ", "dim"), (status.mode, "info")]))
    silent = status.agent.last_seen_s if status.agent else None
    if silent is not None and silent > AGENT_SILENT_S and status.state not in ("finished", "stopped", "crashed", "preempted"):
        pieces.append((1, [(f"agent silent {formats.countdown(silent)}", "warn")]))
    elif status.agent is None and status.state in ("running", "starting"):
        pieces.append((3, [("no agent", "warn")]))
    # what is over goes to the progress bar
    used = sum(line_width(p) for _, p in pieces) + 2 * (len(pieces) - 1)
    cells = min(32, width - used - 2)
    if share is not None and cells >= 6:
        pieces.insert(at_bar, (4, [(formats.bar(share, cells), "bar")]))
    return pack(pieces, width)


def _second(view: View, status: Status, width: int) -> Line:
    pieces: list[tuple[int, Line]] = []
    goal = status.goal
    main = view.main_signal
    if goal is not None:
        pieces.append((1, [(f"{plain(goal.name)} ", "dim"), (formats.value(goal.last), _value_style(goal.last, "goal"))]))
        if goal.best is not None:
            pieces.append((3, [(f"best {formats.value(goal.best)} @{formats.short_count(goal.best_step)}", "dim")]))
    if goal is None or goal.name != main:
        now = status.signals.get(main)
        last = now.last if now else None
        value: Span = (formats.value(last), _value_style(last, "loss"))
        pieces.append((1, [(f"{plain(main)} ", "dim"), value, *_slope(view, status)]))
    knob = status.knobs.get("lr") or next(iter(status.knobs.values()), None)
    name = "lr" if "lr" in status.knobs or not status.knobs else next(iter(status.knobs))
    pieces.append((1, rate(name, knob, status)))
    speed = "– step/s" if status.steps_per_s is None else f"{formats.value(status.steps_per_s, 3)} step/s"
    pieces.append((4, [(speed, "")]))
    pieces.append((5, [("wait ", "dim"), (formats.percent(status.data_wait), "warn" if (status.data_wait or 0) >= 0.1 else "")]))
    if status.epoch is not None:
        of = f" / {status.epochs}" if status.epochs else ""
        pieces.append((6, [("epoch ", "dim"), (f"{status.epoch:.2f}{of}", "")]))
    if status.incidents.total:
        open_ = f", {status.incidents.open} open" if status.incidents.open else ""
        noun = "incident" if status.incidents.total == 1 else "incidents"
        pieces.append((7, [(f"{status.incidents.total} {noun}{open_}", "warn" if open_ else "dim")]))
    if status.branch:
        pieces.append((8, [("branch ", "dim"), (str(status.branch), "")]))
    if status.agent and status.agent.dropped:
        pieces.append((3, [(f"{formats.count(status.agent.dropped)} records lost", "bad")]))
    return pack(pieces, width)


def _value_style(value: float | None, usual: str) -> str:
    return "badge-bad" if value is not None and not math.isfinite(value) else usual


def rate(name: str, knob: KnobNow | None, status: Status) -> Line:
    """``lr 3.0e-4 × 0.5 = 1.5e-4``: scheduled × scale = effective."""
    if knob is None:
        now = status.signals.get(name)
        return [(f"{plain(name)} ", "dim"), (formats.rate(now.last if now else None), "lr")]
    spans: list[Span] = [(f"{plain(name)} ", "dim")]
    if knob.held:
        return [*spans, (formats.rate(knob.effective), "lr"), (" held", "warn")]
    scaled = abs(knob.scale - 1) > 1e-9
    spans.append((f"{formats.rate(knob.scheduled)} × ", ""))
    spans.append((formats.scale(knob.scale), "warn" if scaled else ""))
    return [*spans, (" = ", ""), (formats.rate(knob.effective), "lr")]


def _slope(view: View, status: Status) -> Line:
    now = status.signals.get(view.main_signal)
    if status.slope_per_k is None or now is None or not now.last:
        return []
    share = abs(status.slope_per_k / now.last)
    if share != share or share == float("inf"):  # the loss itself is not finite
        return []
    arrow, style = ("↓", "good") if status.slope_per_k < 0 else ("↑", "warn")
    if share < 5e-5:
        arrow, style = "→", "dim"
    if share >= STEEP:
        return [(f" {arrow}", style)]
    return [(f" {arrow}{share * 100:.1f} %/1k", style)]
