"""An error of our own in one task must not end the daemon, nor stay unseen: it is logged once, counted, and told in the status."""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

KINDS = 50
"""Told apart at most."""

_seen: dict[str, int] = {}


def guarded(task: Callable[[], object]) -> None:
    """Run it; an error is written down, and what comes next has its turn."""
    try:
        task()
    except Exception as e:  # noqa: BLE001 — that is what it is for
        note(e)


def note(error: Exception) -> None:
    """Logged with its traceback the first time, and counted."""
    kind = f"{type(error).__name__}: {error}"[:200]
    if kind not in _seen:
        log.error("a task of the daemon failed (further ones of this kind are only counted)", exc_info=error)
        if len(_seen) >= KINDS:
            del _seen[next(iter(_seen))]
    _seen[kind] = _seen.get(kind, 0) + 1


def mishaps() -> list[str]:
    """A sentence where there were any."""
    if not _seen:
        return []
    last, count = next(reversed(_seen.items()))
    return [f"the daemon failed {sum(_seen.values())} times in a task of its own ({last}, {count} times); see its daemon.log"]
