"""An error of our own in one task must not end the daemon, nor stay unseen: it is logged once, counted, and told in the status."""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

KINDS = 50
"""Told apart, and logged, at most."""
OTHERS = "others"

_seen: dict[str, tuple[int, str]] = {}
"""How often, and the last one's text; the latest kind stands last."""


def guarded(task: Callable[[], object]) -> bool:
    """Run it; an error is written down, and what comes next has its turn. Whether all went well."""
    try:
        task()
    except Exception as e:  # noqa: BLE001 — that is what it is for
        note(e)
        return False
    return True


def note(error: Exception) -> None:
    """Logged with its traceback the first time, and counted."""
    kind = _kind(error)
    if kind not in _seen:
        if len(_seen) >= KINDS:
            kind = OTHERS
        else:
            log.error("a task of the daemon failed (further ones of this kind are only counted)", exc_info=error)
    count, _ = _seen.pop(kind, (0, ""))
    _seen[kind] = count + 1, f"{type(error).__name__}: {error}"[:200]


def _kind(error: Exception) -> str:
    """Its type and the line where it was raised. Not its text, which may quote what came from outside: every one would be of a new kind."""
    at, line = error.__traceback__, ""
    while at is not None:
        line = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}"
        at = at.tb_next
    return f"{type(error).__name__} {line}"


def mishaps() -> list[str]:
    """A sentence where there were any."""
    if not _seen:
        return []
    count, last = next(reversed(_seen.values()))
    total = sum(n for n, _ in _seen.values())
    return [f"the daemon failed {_times(total)} in a task of its own ({last}, {_times(count)}); see its daemon.log"]


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
