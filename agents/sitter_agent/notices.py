"""SIGTERM and SIGUSR1 from outside, as schedulers send them before they take the machine away: a checkpoint at the next safe
point, a word about it, and then whatever the script would have done."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from sitter_agent.checkpoint_files import Sidecar
from sitter_agent.core import Core
from sitter_agent.handlers import chained
from sitter_agent.state_copy import copy_for_checkpoint
from sitter_wire.events import Preempted

PATIENCE_S = 20.0
"""Grace periods are often 30 s: with no safe point until then the script's own way is taken. A second signal takes it at once."""
WRITE_S = 20.0

SIGNALS = ("SIGTERM", "SIGUSR1")


class Notices:
    """Chained handlers. ``pending`` is the signal that waits for a safe point."""

    def __init__(self, active: Callable[[], bool]) -> None:
        """``active``: whether safe points come at all; where they do not, a signal goes straight on."""
        self.pending: int | None = None
        self._active = active
        self._before: dict[int, Any] = {}
        self._pid = os.getpid()
        self._timer: threading.Timer | None = None
        self._write_s = WRITE_S
        self._held: set[int | signal.Signals] | None = None

    def install(self) -> None:
        """Only on the main thread, as Python demands; a handler that C code set is left alone."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in SIGNALS:
            number = getattr(signal, name, None)
            before = signal.getsignal(number) if number is not None else None
            if number is None or before is None:
                continue
            self._before[number] = before
            chained.append(before)
            signal.signal(number, self._handle)
        _live[:] = [self]

    def remove(self) -> None:
        """Put the script's handlers back, where ours are still in place."""
        if self._timer is not None:
            self._timer.cancel()
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
            if before in chained:
                chained.remove(before)
        self._before.clear()
        _live[:] = []

    def forking(self) -> None:
        """Python forgets in the child what arrived before its own fork hooks ran; without our handler it would have died of it. So
        the signals are held back until the child has the script's handlers again."""
        with contextlib.suppress(ValueError, OSError):
            self._held = signal.pthread_sigmask(signal.SIG_BLOCK, set(self._before))

    def forked_in_parent(self) -> None:
        """As before."""
        if self._held is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._held)

    def forked(self) -> None:
        """A child is ended by its parent with SIGTERM: there the script's handlers hold at once."""
        self.pending = None
        for number, before in self._before.items():
            with contextlib.suppress(ValueError, OSError):
                signal.signal(number, before)
        if self._held is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._held)

    def carry_out(self, core: Core) -> None:
        """At a safe point: checkpoint, tell, go on as the script would have."""
        number, self.pending = self.pending, None
        if number is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        name = signal.Signals(number).name
        with core.rail.around("a pre-emption notice"):
            core.event(Preempted(signal=name, text=self._checkpoint(core, name)))
            if core.link is not None:
                core.link.ship()
        self._as_the_script_would(number, None)

    def _checkpoint(self, core: Core, name: str) -> str:
        told: list[tuple[Sidecar | None, str]] = []
        sound = core.has_state() and core.adapter.finite()
        refused = copy_for_checkpoint(
            core, why=name, cleared=not sound, pinned=False, done=lambda s, why: told.append((s, why))
        )
        if refused is not None:
            return f"{name} received; no checkpoint: {refused}"
        core.vault.wait(self._write_s)
        side, why = told[0] if told else (None, f"it was not written within {self._write_s:.0f} s")
        return (
            f"{name} received; no checkpoint: {why}"
            if side is None
            else f"{name} received; checkpoint {side.file} written"
        )

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid or self.pending is not None or not self._active():
            self._as_the_script_would(number, frame)
            return
        self.pending = number
        self._timer = threading.Timer(PATIENCE_S, os.kill, (self._pid, number))
        self._timer.daemon = True
        self._timer.start()

    def _as_the_script_would(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number, signal.SIG_DFL)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


_live: list[Notices] = []
"""The installed ones: one or none."""


def _each(what: str) -> None:
    for notices in _live:
        getattr(notices, what)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _each("forking"),
        after_in_parent=lambda: _each("forked_in_parent"),
        after_in_child=lambda: _each("forked"),
    )
