"""A pipe that ends another thread's poll, from any thread and from inside a signal handler."""

import os


class Waker:
    """``fd`` becomes readable once ``wake`` was called, until ``clear``. Neither ever blocks."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)

    def wake(self) -> None:
        """Make ``fd`` readable. A full pipe is readable already."""
        try:
            os.write(self._write, b"\0")
        except OSError:
            pass  # full, or closed at the very end: both are fine

    def clear(self) -> None:
        """Take out what ``wake`` put in."""
        try:
            while len(os.read(self.fd, 512)) == 512:
                pass
        except OSError:
            pass  # empty

    def close(self) -> None:
        """Give the descriptors back; only once nobody polls any more."""
        fds, self.fd, self._write = (self.fd, self._write), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
