"""A question to a file system that may hang: asked in a thread, since the daemon's loop must not wait for it for ever."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

PATIENCE_S = 2.0
"""So long it is waited for, once, for what takes less than a millisecond as a rule. While that call does not come back the last answer
serves, at once."""

T = TypeVar("T")


class FileQuestion(Generic[T]):
    """Asked again and again, from one thread."""

    def __init__(self) -> None:
        self._at_work: _Call[T] | None = None
        self._last: T | None = None

    def ask(self, read: Callable[[], T]) -> T | None:
        """What ``read`` says now, or said last while the file system does not answer; None: it never did. Raises what ``read`` raises."""
        if self._at_work is not None and not self._at_work.done.is_set():
            return self._last
        call = self._at_work = _Call(read)
        call.begin()
        if call.done.wait(PATIENCE_S):
            self._last = call.result()
        return self._last


class _Call(Generic[T]):
    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._found: list[T] = []
        self._error: Exception | None = None
        self.done = threading.Event()

    def begin(self) -> None:
        try:
            threading.Thread(target=self._work, name="sitter-files", daemon=True).start()
        except RuntimeError:  # no thread can be had: then as it would be without one
            self._work()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._found[0]

    def _work(self) -> None:
        try:
            self._found.append(self._read())
        except Exception as e:  # noqa: BLE001 — raised where it was asked
            self._error = e
        self.done.set()
