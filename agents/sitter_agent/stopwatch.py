"""What a piece of our own work costs the training thread. Time in which other processes had the core is not its cost."""

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
