"""POSIX record locks: who holds a run's daemon.lock or agent.lock.

A POSIX lock goes when its process closes ANY descriptor of that file. So what this process holds is remembered here, and asked about
without opening the file again.

Whoever holds such a lock has the whole file. A command that only reads a run without a daemon keeps every daemon out for that moment, and
must not be taken for one: it locks all but the first byte, so that the first byte is the holder's alone.
"""

import errno
import fcntl
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import IO, NamedTuple

from sitter_wire.places import check_lock_file, small_file

# struct flock as the C library lays it out; only these two are asked for.
_LINUX = sys.platform.startswith("linux")
_FLOCK = struct.Struct("hhqqi4x" if _LINUX else "qqihh")
_WHO = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0) if _LINUX else _FLOCK.pack(0, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
"""The question whose the first byte is."""


class _Held(NamedTuple):
    file: IO[str]
    reads: bool


_MINE: dict[tuple[int, int], _Held] = {}
"""By device and inode. A file that was closed meanwhile does not count."""


def _mine(path: Path) -> _Held | None:
    try:
        found = os.stat(path)  # noqa: PTH116 — asked every second, and half the cost
    except OSError:
        return None
    held = _MINE.get((found.st_dev, found.st_ino))
    return held if held is not None and not held.file.closed else None


def session_of(path: Path) -> str | None:
    """The session that an agent.lock names; None where it says nothing, or this process holds it (reading would give it back)."""
    if _mine(path) is not None:
        return None
    try:
        found = json.loads(small_file(path, 4096))["session"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def holder(path: Path) -> int | None:
    """Pid of the process that holds the lock on ``path``; None where nobody does, or only who reads, or the file is not there.

    Asks without taking it, so that whoever wants it at the same moment is not refused because of us.
    """
    if (mine := _mine(path)) is not None:
        return None if mine.reads else os.getpid()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # should somebody have put a pipe there
    except OSError:
        return None
    try:
        answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _WHO))
        kind, pid = (answer[0], answer[4]) if _LINUX else (answer[3], answer[2])
    except OSError:
        return None
    finally:
        os.close(fd)
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None


def take_within(path: Path, seconds: float, *, reads: bool = False) -> IO[str] | None:
    """Like ``take``; while only who reads is in the way, who will soon be done, it is asked again for so long."""
    end = time.monotonic() + seconds
    while (lock := take(path, reads=reads)) is None and time.monotonic() < end and holder(path) is None:
        time.sleep(0.01)  # a lock that is given back tells nobody but who waits for it, and that wait has no end
    return lock


def take(path: Path, *, reads: bool = False) -> IO[str] | None:
    """The open, locked file, or None where another process (or this one) has it; closing it gives the lock back. ``reads``: only to keep
    others out for a moment; nobody sees a holder in it.

    Raises OSError where it cannot be opened or locked at all, or is no file of ours.
    """
    if _mine(path) is not None:
        return None
    check_lock_file(path)
    file = path.open("a+", encoding="ascii")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 1 if reads else 0, os.SEEK_SET)
    except OSError as e:
        file.close()
        if e.errno in (errno.EACCES, errno.EAGAIN):
            return None
        raise
    found = os.fstat(file.fileno())
    _MINE[found.st_dev, found.st_ino] = _Held(file, reads)
    return file
