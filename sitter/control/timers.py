"""What the loop does by the clock."""

from collections.abc import Callable

import msgspec

from sitter.clock import Clock


class Timer(msgspec.Struct, kw_only=True):
    """``every`` seconds, next at monotonic ``due``."""

    every: float
    due: float
    task: Callable[[], None]


class Timers:
    """A handful of periodic tasks; those due together run in the order they were added."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timers: list[Timer] = []

    def every(self, seconds: float, task: Callable[[], None]) -> None:
        """First one period from now."""
        self._timers.append(Timer(every=seconds, due=self._clock.monotonic() + seconds, task=task))

    def wait_ms(self) -> int:
        """Milliseconds until the next is due, at least 0."""
        due = min(t.due for t in self._timers)
        return max(0, int((due - self._clock.monotonic()) * 1000) + 1)

    def run(self) -> None:
        """Those that are due. One that is late (the host slept) runs once, not as often as it was missed."""
        now = self._clock.monotonic()
        for timer in self._timers:
            if timer.due <= now:
                timer.due = max(timer.due + timer.every, now)
                timer.task()
