"""A timer that a signal handler may start. ``threading``'s own takes locks that the code which the signal interrupted may hold: a handler
that came while the script was starting a thread would wait for ever."""

import _thread
import contextlib
from collections.abc import Callable


class Timer:
    """Calls ``then`` in a thread of its own after ``seconds``, unless cancelled. Where no thread can be had it never does."""

    def __init__(self, seconds: float, then: Callable[[], None]) -> None:
        self._waiting = _thread.allocate_lock()
        self._waiting.acquire()
        with contextlib.suppress(RuntimeError, MemoryError):
            _thread.start_new_thread(self._wait, (seconds, then))

    def cancel(self) -> None:
        """Once is enough; later is no harm."""
        with contextlib.suppress(RuntimeError):
            self._waiting.release()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if not self._waiting.acquire(timeout=seconds):
            then()
