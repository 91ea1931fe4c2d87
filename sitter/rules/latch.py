"""A condition that must last before it counts, and must be gone for a while before it can count again."""

from typing import Literal


class Latch:
    """``update`` once a second; says ``on`` or ``off`` once at each turn. Seconds. None (unknown) changes nothing."""

    __slots__ = ("_last", "_since", "after", "is_on", "off_after")

    def __init__(self, after: float, off_after: float) -> None:
        self.after, self.off_after = after, off_after
        self.is_on = False
        self._since: float | None = None
        self._last: float | None = None

    def update(self, now: float, condition: bool | None) -> Literal["on", "off"] | None:
        """``condition`` as it is at ``now``. After a gap in the ticks (the host slept) the time begins anew."""
        if condition is None or (self._last is not None and now - self._last > 60.0):
            self._since, self._last = None, now
            return None
        self._last = now
        if condition == self.is_on:
            self._since = None
            return None
        if self._since is None:
            self._since = now
        if now - self._since < (self.off_after if self.is_on else self.after):
            return None
        self.is_on, self._since = condition, None
        return "on" if condition else "off"
