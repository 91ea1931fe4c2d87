"""How often one notifier may speak."""

from collections import deque
from typing import Literal

Turn = Literal["speak", "last", "silent"]


class Rate:
    """At most ``limit`` in a rolling ``span`` of seconds, then one last word, then silence until there is room again.

    ``held`` counts what was kept back since it last spoke.
    """

    def __init__(self, limit: int, span: float) -> None:
        self._limit, self._span = limit, span
        self._spoken: deque[float] = deque()
        self.held = 0

    def ask(self, now: float) -> Turn:
        """May one more be said?"""
        while self._spoken and now - self._spoken[0] >= self._span:
            self._spoken.popleft()
        if len(self._spoken) < self._limit:
            self._spoken.append(now)
            return "speak"
        self.held += 1
        return "last" if self.held == 1 else "silent"

    def room_in(self, now: float) -> float:
        """Seconds until it may speak again."""
        return max(0.0, self._spoken[0] + self._span - now) if self._spoken else 0.0

    def take_held(self) -> int:
        """How many were kept back; counted from 0 again."""
        held, self.held = self.held, 0
        return held
