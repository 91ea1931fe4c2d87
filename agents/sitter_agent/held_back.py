"""What the script's signal handlers do (Ctrl-C raises KeyboardInterrupt) waits while something of ours is begun or ended.

Python runs a handler between any two instructions. A session that is begun takes a lock, starts a thread and opens sockets; broken off
between two instructions it would leave some of that behind, with nobody to end it, and the next ``start`` of a notebook would find the
run taken. So the handlers are held back until the session is whole, or gone; in the long waits (a daemon that starts, a checkpoint that is
being written) ``look`` carries them out, and what is there is undone in order. A second Ctrl-C is not held back: nobody who is in a hurry
shall be kept.
"""

import contextlib
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from sitter_agent.handlers import NOTICES, chained

_present: "HeldBack | None" = None


class HeldBack:
    """``with HeldBack(): …``: on the main thread, where handlers run; elsewhere, and inside another one, it does nothing. What was held
    back is carried out at the end, and raises there what it raises. SIGTERM and SIGUSR1 are not held back: ``notices`` has those."""

    def __init__(self) -> None:
        self._on = False
        self._before: dict[int, Any] = {}
        self._came: dict[int, FrameType | None] = {}

    def __enter__(self) -> "HeldBack":
        global _present
        if _present is None and threading.current_thread() is threading.main_thread():
            self._on = True
            try:
                self._stand_before()
            except BaseException:  # a handler that was not held back yet
                self._on = False
                self._step_back()
                raise
            _present = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _present
        if self._on:
            _present, self._on = None, False  # from here on ours only hands on
            self._step_back()
            self.carry_out()

    def _stand_before(self) -> None:
        named = [getattr(signal, name, None) for name in NOTICES]
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler) and number not in named:
                self._before[number] = handler
                chained.append(handler)
                with contextlib.suppress(ValueError, OSError):  # a Python inside another one may not
                    signal.signal(number, self._hold)

    def _step_back(self) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._hold:
                signal.signal(number, handler)
            if handler in chained:
                chained.remove(handler)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._on and number not in self._came:
            self._came[number] = frame
        else:
            self._before[number](number, frame)

    def carry_out(self) -> None:
        """What was held back, now. Raises what the script's handlers raise."""
        while self._came:
            number, frame = self._came.popitem()
            self._before[number](number, frame)


def look() -> None:
    """In the midst of a long wait: carry out what was held back. Raises what the script's handlers raise."""
    if _present is not None and threading.current_thread() is threading.main_thread():
        _present.carry_out()
