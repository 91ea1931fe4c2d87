"""The stacks of all threads: as text, from whichever thread asks, while the interpreter's lock is free; and by a signal, which
faulthandler answers into a file also while some C code keeps the lock."""

import contextlib
import faulthandler
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import IO

MOST_FRAMES = 60
"""Per thread, innermost kept: a recursion that ran away must not make a message too large to send."""

SIGNAL: int = getattr(signal, "SIGURG", 0)
"""Asks for the stacks. Of the signals that nobody uses it is the one that is ignored by default: where our handler is gone, or in a
program that a training has started, it does nothing, while SIGUSR2 or a real-time signal would kill. (Go's runtime chose it likewise.)"""


def dump() -> str:
    """One block per thread, as a traceback prints it, the main thread first."""
    names = {t.ident: t.name for t in threading.enumerate()}
    main = threading.main_thread().ident
    blocks = []
    for ident, frame in sorted(sys._current_frames().items(), key=lambda item: item[0] != main):
        frames = traceback.StackSummary.extract(_walk(frame), lookup_lines=False)
        lines = "".join(traceback.format_list(list(reversed(frames))))
        blocks.append(f"Thread {names.get(ident, 'unknown')} ({ident}), most recent call last:\n{lines}")
    return "\n".join(blocks)


def _walk(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    out: list[tuple[FrameType, int]] = []
    while frame is not None and len(out) < MOST_FRAMES:
        out.append((frame, frame.f_lineno))
        frame = frame.f_back
    return out


class StackFile:
    """A file that is opened once, into which ``SIGNAL`` writes the stacks of all threads. Nothing is opened in the handler.

    Where the script, or some library's C code, has a handler of its own for that signal, nothing is set up. The daemon sends it to the
    control thread alone, so that no C call of the training's threads is cut short (EINTR), and only where this process says
    that it would be answered. Without ``chain``: that would give up restarting interrupted calls (CPython's ``faulthandler.c``).
    """

    def __init__(self, path: Path) -> None:
        """Raises nothing: without it, a hang with the lock held is looked at from outside."""
        self.path = path
        self._file: IO[str] | None = None
        with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
            if not SIGNAL or signal.getsignal(SIGNAL) is not signal.SIG_DFL or caught(SIGNAL):
                return
            file = path.open("a", encoding="utf-8")
            try:
                faulthandler.register(SIGNAL, file, all_threads=True, chain=False)
            except (OSError, RuntimeError):
                file.close()
                raise
            self._file = file

    def signal(self) -> int:
        """The signal that is answered now; 0: none, since it could not be set up or the script has taken it."""
        return SIGNAL if self._file is not None and signal.getsignal(SIGNAL) is signal.SIG_DFL else 0

    def close(self) -> None:
        """Answer no more. A file into which nothing was written goes."""
        if self._file is None:
            return
        file, self._file = self._file, None
        with contextlib.suppress(OSError, ValueError):
            if signal.getsignal(SIGNAL) is signal.SIG_DFL:  # else the script's own handler stands there
                faulthandler.unregister(SIGNAL)
            file.close()
            if self.path.stat().st_size == 0:
                self.path.unlink()


def caught(number: int) -> bool:
    """Whether this process has a handler for a signal, also one of C code that Python does not know of. Linux; elsewhere no."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        mask = next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1]
    except (OSError, StopIteration, IndexError):
        return False
    return bool(int(mask, 16) >> (number - 1) & 1)
