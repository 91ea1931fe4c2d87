"""Who waits until the history holds what they gave: an answer to a person is a promise, which a kill right after it must not break."""

import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Told = Callable[[bool], None]


class Promises:
    """Each is told once: True when all that was given before it is on disk, False as soon as it turns out that nothing can be written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Told]] = deque()

    def add(self, goal: int, told: Told) -> None:
        """``goal``: so many things were given."""
        with self._lock:
            self._waiting.append((goal, told))

    def kept(self, done: int) -> None:
        """So many are on disk."""
        with self._lock:
            due = [told for goal, told in self._waiting if goal <= done]
            self._waiting = deque((goal, told) for goal, told in self._waiting if goal > done)
        _tell(due, safe=True)

    def broken(self) -> None:
        """Nothing can be written now."""
        with self._lock:
            due = [told for _, told in self._waiting]
            self._waiting.clear()
        _tell(due, safe=False)


def _tell(due: list[Told], *, safe: bool) -> None:
    for told in due:
        try:
            told(safe)
        except Exception:  # who is told is another part: its bug must not keep the others from being told
            log.exception("telling whether it is on disk")
