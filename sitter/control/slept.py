"""The host was suspended, or the daemon was stopped: time that passed for nobody is no hang and no stall, and is written down. So is a wall
clock that was set: whoever reads the logbook later would wonder at its times."""

import time
from collections.abc import Callable

from sitter.clock import human
from sitter.control.core import Core

SLEPT_S = 2.0
"""CLOCK_BOOTTIME counts while the host sleeps and CLOCK_MONOTONIC does not (clock_gettime(2)); they part by less than this otherwise."""
STOOD_S = 30.0
"""A loop that turns once a second and did not for so long was itself stopped (SIGSTOP, a frozen cgroup, a virtual machine put aside)."""
SET_S = 60.0
"""Less is what keeps a clock right, and confuses nobody."""


def clocks() -> tuple[float, float, float]:
    """(monotonic, with sleep, wall) seconds; all of them the first where the system has no clock that counts its sleep."""
    mono = time.monotonic()
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return (mono, mono, mono) if boot is None else (mono, time.clock_gettime(boot), time.time())


class Slept:
    """``tick`` before anything is judged by its age."""

    def __init__(self, core: Core, read: Callable[[], tuple[float, float, float]] = clocks) -> None:
        self._core, self._read = core, read
        self._mono, self._boot, self._wall = read()

    def tick(self) -> None:
        """Once a second."""
        mono, boot, wall = self._read()
        stood, slept, ahead = mono - self._mono, (boot - self._boot) - (mono - self._mono), (wall - self._wall) - (boot - self._boot)
        self._mono, self._boot, self._wall = mono, boot, wall
        present = self._core.present
        if slept > SLEPT_S:
            self._note("host slept", f"host slept {human(slept)}; the training stood still with it, and goes on")
        if stood > STOOD_S:
            # What the agent said last is so much older than it would be, had anybody asked; what has come since is as new as it can be.
            present.pong_at = None if present.pong_at is None else min(mono, present.pong_at + stood)
            present.last_safe_point = None if present.last_safe_point is None else min(mono, present.last_safe_point + stood)
            self._note("daemon stood", f"the daemon did not run for {human(stood)}: it was stopped, or its machine was")

        if abs(ahead) > SET_S:
            way = "forward" if ahead > 0 else "back"
            self._note("clock set", f"the wall clock was set {way} by {human(abs(ahead))}: what is dated before this line has other times")

    def _note(self, status: str, text: str) -> None:
        self._core.log_entry("note", step=self._core.present.step, branch=self._core.present.branch, status=status, detail=text)
