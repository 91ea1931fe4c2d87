"""Every word that is spoken to the NVIDIA driver goes through ``Driver.ask``: one guarded call for hardware that lies.

What an error code means for whoever asked (codes as in nvml.h, ``nvmlReturn_t``)::

    3, 13, 25     NEVER    not supported, function not found, struct of another version: this figure does not exist here
    4             DENIED   no permission: drop the figure, and say so
    10, 20        BUSY     time-out, memory: asked twice in a row already, and again next time
    15, 16        LOST     the GPU fell off the bus, or needs a reset: an alarm
    1, 9, 18      DOWN     uninitialised, no driver, library and driver differ: open the library again, with back-off
    12            ABSENT   no driver library on this machine: a normal state
    999, others   LATER    this one question failed: ask it again, with back-off
"""

import ctypes
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

LIBRARY = "libnvidia-ml.so.1"
"""What pynvml itself loads, by this bare name."""


class Fate(enum.Enum):
    """What became of a question; the table stands above."""

    OK = "ok"
    NEVER = "never"
    DENIED = "denied"
    BUSY = "busy"
    LOST = "lost"
    DOWN = "down"
    ABSENT = "absent"
    LATER = "later"


_FATES = {
    3: Fate.NEVER, 13: Fate.NEVER, 25: Fate.NEVER, 4: Fate.DENIED, 10: Fate.BUSY, 20: Fate.BUSY,
    15: Fate.LOST, 16: Fate.LOST, 1: Fate.DOWN, 9: Fate.DOWN, 18: Fate.DOWN, 12: Fate.ABSENT,
}  # fmt: skip


class Answer(NamedTuple):
    """A value where ``fate`` is OK; else the driver's code and its words."""

    fate: Fate
    value: Any = None
    code: int = 0
    text: str = ""


class Driver:
    """One thread's way to the driver. ``asking`` is (function, monotonic seconds) while a call is under way.

    A driver call can hang for ever and cannot be interrupted, so whoever must not wait looks at ``asking`` from another
    thread. ctypes gives up the GIL for the call.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.asking: tuple[str, float] | None = None

    def ask(self, name: str, *args: Any, tries: int = 2) -> Answer:
        """Call ``pynvml.<name>(*args)``. Never raises; a time-out is tried ``tries`` times in all."""
        import pynvml  # 6 MB and 40 ms that a machine without a driver need not spend

        answer = Answer(Fate.LATER)
        for _ in range(tries):
            self.asking = (name, self._monotonic())
            try:
                return Answer(Fate.OK, getattr(pynvml, name)(*args))
            except pynvml.NVMLError as e:
                answer = Answer(_FATES.get(e.value, Fate.LATER), None, e.value, str(e))
            except AttributeError as e:  # an older binding does not know the function
                answer = Answer(Fate.NEVER, None, 13, str(e))
            except Exception as e:  # noqa: BLE001 — bytes that are no text, a library of another shape: nothing may get out
                answer = Answer(Fate.LATER, None, -1, f"{type(e).__name__}: {e}")
            finally:
                self.asking = None
            if answer.fate is not Fate.BUSY:
                break
        return answer


def library_present() -> bool:
    """Whether the driver's library can be loaded at all; asked before the binding is imported."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def address(handle: Any) -> int:
    """A device handle as a number, so that two can be compared. 0 where it is null."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


class Backoff:
    """When to try again: at once, then after ``first`` seconds, doubling up to ``cap``."""

    def __init__(self, first: float = 1.0, cap: float = 60.0) -> None:
        self._first, self._cap = first, cap
        self._wait = 0.0
        self._next = float("-inf")

    def due(self, now: float) -> bool:
        """Whether it is time."""
        return now >= self._next

    def failed(self, now: float) -> None:
        """It did not work: wait longer."""
        self._wait = min(max(2 * self._wait, self._first), self._cap)
        self._next = now + self._wait
