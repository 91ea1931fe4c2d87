"""What an own rule may do, in the operator's words: ``do = ["lr=0.5x", "checkpoint", "notify"]``."""

import difflib

import msgspec

from sitter.errors import UsageError
from sitter.grammar import VERBS, parse_all
from sitter.model import EndAndRestart, Notification, Proposable
from sitter_wire import commands, queries

NOTIFY = "notify"
EVENT = "rule"
"""The event by which notifiers choose."""

LIKE = "such as lr=0.5x, rollback, checkpoint, pause, stop, drop 200, restart or notify; several stand in a list"
FIRST_WORDS = ("rollback", "checkpoint", "pause", "stop", "drop", "restart", NOTIFY)


def own_actions(do: str | list[str]) -> list[Proposable]:
    """Actions, in order. Raises UsageError: what is no action, and what the nearest one is."""
    return [action for text in ([do] if isinstance(do, str) else do) if text.strip() for action in _actions(text)]


def _actions(text: str) -> list[Proposable]:
    words = text.split()
    if words[0] == NOTIFY:
        return [Notification(event=EVENT, text=" ".join(words[1:]))]
    if words == ["restart"]:
        return [EndAndRestart(why="asked for by a rule of your own")]
    if "=" not in words[0] and words[0] not in VERBS:
        near = difflib.get_close_matches(words[0], FIRST_WORDS, 1, 0.6)
        raise UsageError(f"do = {text!r}: {f'did you mean {near[0]}? ' if near else ''}expected an action {LIKE}")
    try:
        asked = parse_all(["set", *words] if "=" in words[0] else words)
    except UsageError as e:
        raise UsageError(f"do = {text!r}: {e}; expected an action {LIKE}") from None
    actions: list[Proposable] = []
    for query in asked:
        if not isinstance(query, queries.Act) or isinstance(query.action, commands.Unpause):
            raise UsageError(f"do = {text!r}: that is for a person to do; expected an action {LIKE}")
        why = {"why": ""} if hasattr(query.action, "why") else {}  # the rule says why
        actions.append(msgspec.structs.replace(query.action, **why))
    return actions
