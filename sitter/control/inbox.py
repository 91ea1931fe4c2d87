"""How other threads reach the daemon's loop: a queue, and one byte down a socket pair that its poller watches, where it is to wake."""

import queue
import socket
from collections.abc import Callable

from sitter.control.mishaps import guarded


class Inbox:
    """Callables from any thread, run on the loop's own."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def fileno(self) -> int:
        """Readable while something waits."""
        return self._read.fileno()

    def post(self, task: Callable[[], None]) -> None:
        """From any thread; never blocks."""
        self._queue.put(task)
        try:
            self._write.send(b"\0")
        except (BlockingIOError, OSError):
            return  # full: the loop is being woken anyway; closed: nobody is left to run it

    def leave(self, task: Callable[[], None]) -> None:
        """From any thread, for what nobody waits for: it is run when the loop is awake anyway, within a second or so."""
        self._queue.put(task)

    def waiting(self) -> bool:
        """Whether there is something to run."""
        return not self._queue.empty()

    def run(self) -> None:
        """On the loop's thread: everything that waits now."""
        for _ in range(self._queue.qsize()):
            try:
                task = self._queue.get_nowait()
            except queue.Empty:
                return
            guarded(task)

    def clear(self) -> None:
        """Take in what made ``fileno`` readable, before ``run``."""
        try:
            self._read.recv(4096)  # should more be there, it stays readable
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Both ends."""
        self._read.close()
        self._write.close()
