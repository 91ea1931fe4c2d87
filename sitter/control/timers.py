"""What the loop does by the clock; and rather when it is awake anyway."""

from collections.abc import Callable

import msgspec

from sitter.clock import Clock
from sitter.control.mishaps import guarded

SOONER, LATER = 0.95, 1.15
"""Of its period: when a task may be done instead of just then. Sooner than that only once, to fall in with what it is to follow."""


class Timer(msgspec.Struct, kw_only=True):
    """``every`` seconds, next at monotonic ``due``; that is ``moved`` where something asked for another moment."""

    every: float
    due: float
    task: Callable[[], None]
    ran: float
    moved: bool = False
    hurried: bool = False

    def rather(self, at: float) -> None:
        """Do it at this moment instead, unless that were too late, or the last time was much too soon already."""
        much_sooner = at - self.ran < SOONER * self.every
        if not self.moved and at - self.ran <= LATER * self.every and not (much_sooner and self.hurried):
            self.due, self.moved, self.hurried = at, True, much_sooner


class Timers:
    """A handful of periodic tasks; those due together run in the order they were added."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timers: list[Timer] = []

    def every(self, seconds: float, task: Callable[[], None]) -> Timer:
        """First one period from now."""
        now = self._clock.monotonic()
        self._timers.append(Timer(every=seconds, due=now + seconds, task=task, ran=now))
        return self._timers[-1]

    def wait_ms(self) -> int:
        """Milliseconds until the next is due, at least 0."""
        due = min(t.due for t in self._timers)
        return max(0, int((due - self._clock.monotonic()) * 1000) + 1)

    def run(self) -> None:
        """Those that are due. One that is late (the host slept) runs once, not as often as it was missed."""
        now = self._clock.monotonic()
        for timer in self._timers:
            if timer.due <= now:
                # One that was moved goes on from there; the others keep their beat.
                timer.due = now + timer.every if timer.moved else max(timer.due + timer.every, now)
                timer.ran, timer.moved, timer.hurried = now, False, timer.moved and timer.hurried
                guarded(timer.task)
