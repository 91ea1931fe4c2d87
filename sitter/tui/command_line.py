"""The line after ``:`` and ``/``: completion, history, and what a command would mean before it is sent."""

import shlex
from typing import Literal

from textual.events import Key
from textual.message import Message
from textual.widgets import Input

from sitter import grammar
from sitter.errors import UsageError
from sitter.model import Status
from sitter.tui import formats
from sitter_wire import commands, queries

Kind = Literal[":", "/"]


class CommandLine(Input):
    """One row. Tab completes, ↑ ↓ go through what was entered before, Enter does it, Esc leaves it."""

    DEFAULT_CSS = """
    CommandLine, CommandLine:focus { border: none; height: 1; padding: 0; width: 100%; background-tint: transparent 0%; }
    """

    class Typed(Message):
        """The text is another one."""

    class Entered(Message):
        """Enter was pressed."""

    class Left(Message):
        """Escape was pressed."""

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id, compact=True, select_on_focus=False)
        self.kind: Kind = ":"
        self.known = grammar.Known()
        self._history: dict[str, list[str]] = {":": [], "/": []}
        self._at = 0
        self._round: list[str] = []

    def open(self, kind: Kind, text: str) -> None:
        """Begin with ``text``, the cursor at its end."""
        self.kind = kind
        self._at, self._round = len(self._history[kind]), []
        self.value = text
        self.cursor_position = len(text)

    def remember(self) -> None:
        """Keep what was entered for ↑."""
        history = self._history[self.kind]
        if self.value.strip() and history[-1:] != [self.value]:
            history.append(self.value)

    def complete(self) -> None:
        """The next completion of what was typed."""
        if self.kind != ":":
            return
        if self.value not in self._round:
            self._round = grammar.completions(self.value, self.known)
        if self._round:
            at = (self._round.index(self.value) + 1) % len(self._round) if self.value in self._round else 0
            only = len(self._round) == 1
            text = self._round[at] + (" " if only and not self._round[at].endswith("=") else "")
            self.value, self.cursor_position = text, len(text)

    def on_key(self, event: Key) -> None:
        """Keys that an Input does not know, or knows otherwise."""
        if event.key in ("up", "down"):
            history = self._history[self.kind]
            self._at = min(max(0, self._at + (1 if event.key == "down" else -1)), len(history))
            self.value = history[self._at] if self._at < len(history) else ""
            self.cursor_position = len(self.value)
        elif event.key == "enter":
            self.post_message(self.Entered())
        elif event.key == "escape" or (event.key == "backspace" and not self.value):
            self.post_message(self.Left())
        else:
            return
        event.prevent_default()
        event.stop()

    def watch_value(self, value: str) -> None:
        """Tell the app, which shows what it would mean."""
        if self.is_attached:
            self.post_message(self.Typed())


def words(text: str) -> list[str]:
    """As a shell would split them, but for a note, which is taken as it stands. Raises UsageError."""
    if text.lstrip().startswith("note "):
        return ["note", text.lstrip()[5:].strip()]
    try:
        return shlex.split(text)
    except ValueError as e:
        raise UsageError(f"a quotation mark is missing ({e})") from e


def known(status: Status | None, rules: list[str]) -> grammar.Known:
    """Names that may complete a line, as the run says them."""
    if status is None:
        return grammar.Known(rules=rules)
    knobs = sorted(status.knobs, key=lambda k: (k != "lr", k)) or ["lr"]
    steps = [c.step for c in status.checkpoints if c.good]
    return grammar.Known(knobs=knobs, rules=rules, proposals=[p.id for p in status.proposals], steps=steps)


def preview(text: str, status: Status | None, names: grammar.Known) -> tuple[str, bool]:
    """What the line would do, and whether it is wrong as it stands. Completions while the first word is being typed."""
    head = text.strip().split(" ")
    if len(head) <= 1 and head[0] not in grammar.VERBS:
        fits = grammar.completions(head[0], names)
        return ("  ".join(fits) if fits else f"{head[0]!r} is no command: {', '.join(grammar.VERBS)}", not fits)
    if text.strip() in grammar.VERBS and text.strip() in ("set", "drop", "approve", "veto", "snooze", "mode", "note"):
        return grammar.USAGE[text.strip()], False
    try:
        found = grammar.parse_all(words(text))
    except UsageError as e:
        return str(e), True
    said = [meaning(query, status) for query in found]
    wrong = any(is_wrong for _, is_wrong in said)
    return "   ".join([s for s, _ in said] + ["Enter does it"] * (not wrong)), wrong


def meaning(query: queries.AnyQuery, status: Status | None) -> tuple[str, bool]:
    """One demand in words with the numbers that it would lead to; True where it would be turned down."""
    if isinstance(query, queries.Act) and status is not None:
        if isinstance(query.action, commands.SetKnob):
            return _set(query.action, status)
        if isinstance(query.action, commands.Rollback):
            return _rollback(query.action, status)
    return grammar.demand_in_words(query), False


def _set(action: commands.SetKnob, status: Status) -> tuple[str, bool]:
    now = status.knobs.get(action.knob)
    if now is None:
        return f"{action.knob} is no knob of this run: {', '.join(status.knobs) or 'none is known'}", True
    if now.effective is None or action.group is not None:
        return grammar.in_words(action), False
    new = now.effective * action.amount if action.op == "scale" else action.amount
    text = f"{action.knob} {formats.rate(now.effective)} → {formats.rate(new)}"
    if now.low is not None and now.high is not None and not now.low <= new <= now.high:
        return f"{text} is outside {formats.rate(now.low)} to {formats.rate(now.high)}", True
    if action.hold:
        return f"{text}, pinned", False
    if now.scheduled:
        text += f", from then on the schedule × {formats.scale(new / now.scheduled)}"
    return text, False


def _rollback(action: commands.Rollback, status: Status) -> tuple[str, bool]:
    good = sorted(c.step for c in status.checkpoints if c.good)
    text = grammar.in_words(action)
    if action.to is not None and status.step is not None:
        if action.to > status.step:
            return f"step {action.to:,} has not been reached: the run is at {status.step:,}", True
        text += f" (−{max(0, status.step - action.to):,} steps)"
        if action.to not in good:
            text += f"; checkpoints: {', '.join(f'{s:,}' for s in good[-4:]) or 'none'}, else a snapshot of that step is needed"
    elif good:
        text += f" (a snapshot in memory, else checkpoint {good[-1]:,})"
    return text, False
