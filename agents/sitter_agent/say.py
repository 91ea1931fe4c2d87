"""The agent's own voice: one line on stderr, once per kind, and never an exception into the training."""

import sys

from sitter_agent.handlers import raised_by_handler

MOST_WORDS = 300


def say(text: str) -> None:
    """Write ``sitter: text`` to stderr. A closed or missing stderr is nobody's fault."""
    try:
        sys.stderr.write(f"sitter: {text}\n")
        sys.stderr.flush()
    except Exception as e:  # the last resort has no other place to complain to
        if raised_by_handler(e):
            raise


class Once:
    """Says each kind of thing once. ``seen`` counts how often each came."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def __call__(self, kind: str, text: str) -> bool:
        """Whether it was said now (the first of its kind)."""
        n = self.seen.get(kind, 0)
        self.seen[kind] = n + 1
        if n == 0:
            say(text)
        return n == 0


def in_words(error: BaseException) -> str:
    """``ValueError: wrong``, also for an error of the user's that cannot even be printed."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 — a foreign __str__ may raise anything
        return type(error).__name__


def uncaught() -> str:
    """The exception that has just ended the script, in words; empty where none has. Python keeps it from printing its traceback until the
    process is gone. At a prompt or in a notebook it is one that the user has long seen; and Ctrl-C is the user's own."""
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if not isinstance(error, Exception) or hasattr(sys, "ps1"):
        return ""
    return in_words(error).split("\n")[0][:MOST_WORDS]
