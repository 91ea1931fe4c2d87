"""POSIX record locks: who holds a run's daemon.lock or agent.lock.

A POSIX lock goes when its process closes ANY descriptor of that file. So what this process holds is remembered here, and asked about
without opening the file again.

Whoever holds such a lock has the whole file. A command that only reads a run without a daemon keeps every daemon out for that moment, and
must not be taken for one: it leaves the first byte alone, which is the holder's. A daemon that waits for such commands to be done holds the
second byte, and a command that comes after it finds no way in.
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


ELSEWHERE = "is on another machine, or in another container: ask there"
"""What is said of a holder that ``is_held`` and has no pid here."""
_NEXT, _READ = 1, 2
"""Offsets: of the byte of who is next, and of what a reader keeps."""
_POLL_S = 0.01
"""A lock that is given back tells nobody but who waits for it, and that wait has no end."""


class _Held(NamedTuple):
    file: IO[str]
    whole: bool


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
    """Pid of the process that holds the lock on ``path``; None where nobody does, or only who reads or waits, or the file is not there.

    Asks without taking it, so that whoever wants it at the same moment is not refused because of us.
    """
    pid = _asked(path)
    return pid if pid is not None and pid > 0 else None


def is_held(path: Path) -> bool:
    """The same also of a process that has no pid here: on another machine, or in another container."""
    return _asked(path) is not None


def _asked(path: Path) -> int | None:
    if (mine := _mine(path)) is not None:
        return os.getpid() if mine.whole else None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # should somebody have put a pipe there
    except OSError:
        return None
    try:
        return _holder(fd)
    finally:
        os.close(fd)


def take_within(path: Path, seconds: float, *, reads: bool = False) -> IO[str] | None:
    """Like ``take``; while only who reads is in the way, who will soon be done, it is waited for so long. Who wants the whole file is not
    waiting for those who come to read after it: one command after the other would keep a daemon out for ever."""
    if _mine(path) is not None:
        return None
    file = _open(path)
    take = _take_part if reads else _take_whole
    _remember(file, whole=False)  # from here on nobody of this process may open and close the file
    taken, end = False, time.monotonic() + seconds
    try:
        while not (taken := take(file)) and time.monotonic() < end and _holder(file.fileno()) is None:
            time.sleep(_POLL_S)
    finally:
        if not taken:
            file.close()
    if not taken:
        return None
    _remember(file, whole=not reads)
    return file


def take(path: Path, *, reads: bool = False) -> IO[str] | None:
    """The open, locked file, or None where another process (or this one) has it; closing it gives the lock back. ``reads``: only to keep
    others out for a moment; nobody sees a holder in it.

    Raises OSError where it cannot be opened or locked at all, or is no file of ours.
    """
    return take_within(path, 0.0, reads=reads)


def _open(path: Path) -> IO[str]:
    check_lock_file(path)
    return path.open("a+", encoding="ascii")


def _remember(file: IO[str], *, whole: bool) -> None:
    found = os.fstat(file.fileno())
    _MINE[found.st_dev, found.st_ino] = _Held(file, whole)


def _take_whole(file: IO[str]) -> bool:
    """Also who is next, where that is all that can be had now."""
    return _lock(file, _NEXT, 1) and _lock(file, 0, 0)


def _take_part(file: IO[str]) -> bool:
    """What a reader keeps, where nobody waits for the whole."""
    if not _lock(file, _NEXT, 0):
        return False
    fcntl.lockf(file, fcntl.LOCK_UN, _READ - _NEXT, _NEXT, os.SEEK_SET)
    return True


def _lock(file: IO[str], start: int, length: int) -> bool:
    """So many bytes; 0: to the end, wherever that comes to lie."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start, os.SEEK_SET)
    except OSError as e:
        if e.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _holder(fd: int) -> int | None:
    """Its pid, 0 or less where it has none here; None where there is no holder."""
    try:
        answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _WHO))
    except OSError:
        return None
    kind, pid = (answer[0], answer[4]) if _LINUX else (answer[3], answer[2])
    return pid if kind != fcntl.F_UNLCK else None
