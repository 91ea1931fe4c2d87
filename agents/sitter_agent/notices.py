"""SIGTERM and SIGUSR1 from outside, as schedulers send them before they take the machine away: a checkpoint at the next safe
point, a word about it, and then whatever the script would have done.

A notice often comes more than once (to the parent and to the whole group, SIGUSR1 first and SIGTERM later): while one waits, the next
is the same one, and does not cut it short. Python runs a handler only when the main thread is between two instructions: a step inside
one long call would not even notice. So the bytes that Python's own C handler writes (``signal.set_wakeup_fd``) wake a thread here, and
where no safe point comes in time, the newest snapshot goes from memory to disk. Where the signal would have ended the process without us,
it does so then, from that thread: a training that hangs in a call must not survive a SIGTERM because of us.
"""

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from sitter_agent.checkpoint_files import Sidecar
from sitter_agent.core import Core
from sitter_agent.handlers import NOTICES, chained
from sitter_agent.state_copy import copy_for_checkpoint, snapshot_for_checkpoint
from sitter_agent.timer import Timer
from sitter_wire.events import Preempted

PATIENCE_S = 20.0
"""Grace periods are often 30 s: with no safe point until then the script's own way is taken."""
RESCUE_S = 10.0
"""So long after a notice, with no safe point, the newest snapshot is written, which takes its time too."""
WRITE_S = 20.0
LOOK_S = 0.05


class Notices:
    """Chained handlers. ``pending`` is the signal that waits for a safe point."""

    def __init__(self, active: Callable[[], bool], rescue: Callable[[str], None] | None = None, *, rescue_s: float = RESCUE_S) -> None:
        """``active``: whether safe points come at all; where they do not, a signal goes straight on. ``rescue`` is called in a thread of
        its own, with the signal's name, where none came within ``rescue_s``."""
        self._rescue, self._rescue_s = rescue, rescue_s
        self._later: list[int] = []
        self._expired = False
        self._taken = threading.Event()
        self._rescued = threading.Event()
        self._rescued.set()
        self._carried_at = -math.inf
        self._waker: tuple[int, int] | None = None
        self.pending: int | None = None
        self._active = active
        self._before: dict[int, Any] = {}
        self._pid = os.getpid()
        self._timer: Timer | None = None
        self._write_s = WRITE_S
        self._held: set[int | signal.Signals] | None = None

    def install(self) -> None:
        """Only on the main thread, as Python demands; a handler that C code set is left alone."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in NOTICES:
            number = getattr(signal, name, None)
            before = signal.getsignal(number) if number is not None else None
            if number is None or before is None:
                continue
            self._before[number] = before
            chained.append(before)
            signal.signal(number, self._handle)
        _live[:] = [self]
        if self._rescue is not None and self._before:
            self._listen()

    def _listen(self) -> None:
        """A thread that blocks until a signal of any kind has come; where somebody else has the wake-up descriptor, it is left to them."""
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(read, True)
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)  # an event loop's
            os.close(read)
            os.close(write)
            return
        self._waker = (read, write)
        threading.Thread(target=self._watch, args=(read,), name="sitter-notices", daemon=True).start()

    def _watch(self, read: int) -> None:
        while True:
            try:
                came = os.read(read, 64)
            except OSError:
                return
            number = next((n for n in came if n in self._before), None)
            if 0 in came or not came:
                os.close(read)
                return
            if number is None:  # a profiler's clock: there may be a thousand a second, and each look takes the interpreter's lock
                time.sleep(LOOK_S)
                continue
            if self._expired or not self._ours(number) or not self._active():
                continue
            began = time.monotonic()
            self._taken.wait(self._rescue_s)
            self._taken.clear()
            if self._carried_at < began - self._rescue_s and self._rescue is not None:
                self._rescued.clear()
                with contextlib.suppress(Exception):  # a thread of ours says nothing on the user's terminal
                    self._rescue(signal.Signals(number).name)
                self._rescued.set()
                self._taken.wait(max(0.0, began + PATIENCE_S - time.monotonic()))
                if self._carried_at < began:
                    self._end_where_it_would(number)

    def _ours(self, number: int) -> bool:
        """Whether our handler still stands there; the script may have put another in its place."""
        return signal.getsignal(number) == self._handle

    def _end_where_it_would(self, number: int) -> bool:
        """End the process, where the signal would have ended it without us; whatever the main thread is in, which is why Python, who acts
        only there, is not asked."""
        if not self._ours(number) or self._before.get(number) != signal.SIG_DFL:
            return False
        self._rescued.wait(WRITE_S)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).signal(number, None)
        os.kill(self._pid, number)
        return True

    def _stop_listening(self) -> None:
        if self._waker is None:
            return
        (_, write), self._waker = self._waker, None
        let_go(write)
        with contextlib.suppress(OSError):
            os.write(write, b"\0")  # no signal has this number: the thread ends
        os.close(write)

    def remove(self) -> None:
        """Put the script's handlers back, where ours are still in place."""
        if self._timer is not None:
            self._timer.cancel()
        if threading.current_thread() is not threading.main_thread():
            return
        self._taken.set()
        self._stop_listening()
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
        if self._waker is not None:  # the parent's thread is not here, and what this child hears is not for it
            waker, self._waker = self._waker, None
            with contextlib.suppress(ValueError, OSError):
                let_go(waker[1])
            for descriptor in waker:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
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
        self._carried_at = time.monotonic()
        self._taken.set()
        name = signal.Signals(number).name
        with core.rail.around("a pre-emption notice"):
            core.event(Preempted(signal=name, text=self._checkpoint(core, name)))
            if core.link is not None:
                core.link.ship()
        numbers, self._later = [number, *self._later], []
        for each in numbers:
            self._as_the_script_would(each, sys._getframe())

    def _checkpoint(self, core: Core, name: str) -> str:
        told: list[tuple[Sidecar | None, str]] = []
        sound = core.has_state() and (bool(core.away) or core.adapter.finite())
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
        if os.getpid() != self._pid or self._expired or not self._active():
            numbers, self._later = [number, *(n for n in self._later if n != number)], []
            self.pending, self._expired = None, False
            for each in numbers:
                self._as_the_script_would(each, frame)
            return
        if self.pending is not None:
            if number != self.pending and number not in self._later:
                self._later.append(number)
            return
        self.pending = number
        self._timer = Timer(PATIENCE_S, lambda: self._expire(number))

    def _expire(self, number: int) -> None:
        self._expired = True
        if not self._end_where_it_would(number):
            os.kill(self._pid, number)

    def _as_the_script_would(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number, signal.SIG_DFL)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def let_go(write: int) -> None:
    """Take our end of a pipe off Python's signals; whoever has put another there since keeps it."""
    before = signal.set_wakeup_fd(-1)
    if before not in (write, -1):
        signal.set_wakeup_fd(before)


def rescue(core: Core, name: str) -> None:
    """No safe point came in time: what lies in memory goes to disk, and that is told. In a thread of its own."""
    told: list[tuple[Sidecar | None, str]] = []
    refused = snapshot_for_checkpoint(core, why=f"{name}, no safe point came", done=lambda s, why: told.append((s, why)))
    core.vault.wait(WRITE_S)
    side, why = told[0] if told else (None, refused or f"it was not written within {WRITE_S:.0f} s")
    what = f"no checkpoint: {why}" if side is None else f"the snapshot of step {side.step} was written as {side.file}"
    core.event(Preempted(signal=name, text=f"{name} received, and no safe point came; {what}"))


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
