"""What a piece of our own work costs the training thread. Time in which other processes had the core is not its cost."""

import os
import statistics
import time
from collections.abc import Callable

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # not Linux: preemption cannot be seen, and the clock alone counts

    def preemptions() -> int:
        """Unknown here."""
        return 0

else:

    def preemptions() -> int:
        """How often this thread has lost its core while it still had work to do."""
        return getrusage(RUSAGE_THREAD).ru_nivcsw


def waited() -> float:
    """Seconds in all that this thread was ready to run and others had the core; 0 where the system does not say. Some 10 µs."""
    try:
        descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(descriptor, 100).split()[1]) / 1e9
        finally:
            os.close(descriptor)
    except (OSError, ValueError, IndexError):
        return 0.0


class Stopwatch:
    """Begins when made. One thread.

    A copy of 0.3 ms during which another process was given the core for 16 ms has cost 0.3 ms: taken for 16, a budget of 1 % would
    forbid the next for 1.6 s. While the thread kept its core, waiting (for a device) counts; where it lost it, only its own time does.
    """

    __slots__ = ("_began", "_clock", "_cpu", "_lost")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lost, self._cpu, self._began = preemptions(), time.thread_time(), clock()

    def seconds(self) -> float:
        """So far."""
        wall = self._clock() - self._began
        if self._clock is time.monotonic and preemptions() != self._lost:
            return min(wall, time.thread_time() - self._cpu)
        return wall


FIRST, THEN = 2, 4
"""Turns behind a snapshot that may be slower for it, and those that they are compared with."""


class Aftermath:
    """What the turns behind a snapshot cost more than those after them: it has pushed the training's data out of the caches, which is
    as dear as half the copy for a state of 600 kB (250 of 770 µs). In CPU time of this thread; a single look is noise, the median of
    the last few is not.
    """

    __slots__ = ("_found", "_last", "_turns", "going")

    def __init__(self) -> None:
        self.going = False
        self._last = 0.0
        self._turns: list[float] = []
        self._found: list[float] = []

    def begin(self) -> None:
        """A snapshot was just taken."""
        self.going, self._turns, self._last = True, [], time.thread_time()

    def turn(self) -> None:
        """A turn is over, while ``going``."""
        now = time.thread_time()
        self._turns.append(now - self._last)
        self._last = now
        if len(self._turns) == FIRST + THEN:
            self.going = False
            usual = statistics.median(self._turns[FIRST:])
            self._found = [*self._found[-8:], sum(self._turns[:FIRST]) - FIRST * usual]

    def seconds(self) -> float:
        """Of one snapshot, by what was seen so far; never negative."""
        return max(0.0, statistics.median(self._found)) if self._found else 0.0
