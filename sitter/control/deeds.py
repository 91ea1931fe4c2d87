"""What an own rule may do, in the operator's words: ``do = ["lr=0.5x", "checkpoint", "notify"]``."""

import msgspec

from sitter.errors import UsageError
from sitter.grammar import parse_all, parse_set
from sitter.model import EndAndRestart, Notification, Proposable
from sitter_wire import commands, queries

NOTIFY = "notify"
EVENT = "rule"
"""The event by which notifiers choose."""

LIKE = "such as lr=0.5x, rollback, checkpoint, pause, stop, drop 200, restart or notify"


def deeds(do: str | list[str]) -> list[Proposable]:
    """Actions, in order. Raises UsageError: what is no action, and what the nearest one is."""
    return [action for text in ([do] if isinstance(do, str) else do) if text.strip() for action in _deeds(text)]


def _deeds(text: str) -> list[Proposable]:
    words = text.split()
    if words[0] == NOTIFY:
        return [Notification(event=EVENT, text=" ".join(words[1:]))]
    if words == ["restart"]:
        return [EndAndRestart(why="asked for by a rule of your own")]
    if "=" in words[0]:
        return [*parse_set(words)]
    try:
        asked = parse_all(words)
    except UsageError as e:
        raise UsageError(f"do = {text!r}: {e}; expected an action {LIKE}") from None
    actions: list[Proposable] = []
    for query in asked:
        if not isinstance(query, queries.Act) or isinstance(query.action, commands.Unpause):
            raise UsageError(f"do = {text!r}: that is for a person to do; expected an action {LIKE}")
        why = {"why": ""} if hasattr(query.action, "why") else {}  # the rule says why
        actions.append(msgspec.structs.replace(query.action, **why))
    return actions
