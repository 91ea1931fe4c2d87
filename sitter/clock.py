"""Time comes in from outside, so that every test can hold it still."""

import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds. ``monotonic`` is CLOCK_MONOTONIC, shared by all processes of the host; ``wall`` is unix time."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def wall(self) -> float:
        """Unix seconds; may jump."""
        ...


class SystemClock:
    """The real one."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix seconds; may jump."""
        return time.time()


UNKNOWN = "unknown"


def iso(wall: float) -> str:
    """Unix seconds as ISO 8601 with the local offset, to the second; ``UNKNOWN`` where no calendar has such a day: of a damaged file, or an
    end that lies thousands of years ahead."""
    try:
        return datetime.datetime.fromtimestamp(wall).astimezone().isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return UNKNOWN


_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float:
    """``90s``, ``30m``, ``2h``, ``1d`` or a bare number of seconds, in seconds. Raises ValueError."""
    text = text.strip().lower()
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            return float(text[: -len(unit)]) * _UNITS[unit]
    return float(text)


def human(seconds: float) -> str:
    """``8 h 12 m``, ``3 m 5 s``, ``42 s``: the two largest units."""
    s = round(seconds)
    for big, small, size, per in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if s >= size:
            rest = (s % size) // per
            return f"{s // size} {big} {rest} {small}" if rest else f"{s // size} {big}"
    return f"{s} s"
