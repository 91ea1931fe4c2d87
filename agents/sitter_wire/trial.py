"""Whether a directory carries what recorder and history need, tried with scratch files in a process of its own:

    python -I -S trial.py DIRECTORY

prints nothing where it does, else one sentence. Network file systems are not known by their names: some carry all of it, some local ones
do not. A process of its own, since a store to a mapping that fails is a signal, not an exception, and a lock server that is gone lets
whoever asks it wait for ever. Imports the standard library only.
"""

import contextlib
import fcntl
import mmap
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

WORD = b"here"


def main() -> None:
    """See above."""
    try:
        with tempfile.TemporaryDirectory(dir=sys.argv[1], prefix=".sitter-trial-") as scratch:
            for what, check in (("mmap", mapped), ("file locks", locked), ("SQLite's WAL", logged)):
                why_not = tried(check, Path(scratch))
                if why_not:
                    sys.stdout.write(f"{what}: {why_not}\n")
                    return
    except OSError as e:
        sys.stdout.write(f"a scratch directory: {e.strerror}\n")


def tried(check: Callable[[Path], str], scratch: Path) -> str:
    """What ``check`` says, or the error that it ended with."""
    try:
        return check(scratch)
    except OSError as e:
        return e.strerror or str(e)
    except (sqlite3.Error, ValueError) as e:
        return str(e)


def mapped(scratch: Path) -> str:
    """A shared mapping can be written, and the file then holds what was written."""
    with (scratch / "mapped").open("w+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, mmap.PAGESIZE)
        else:
            file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), mmap.PAGESIZE) as memory:
            memory[: len(WORD)] = WORD
            found = os.pread(file.fileno(), len(WORD), 0)
    return "" if found == WORD else "what is written into a mapping is not seen in the file"


def locked(scratch: Path) -> str:
    """A record lock keeps another process out."""
    path = scratch / "locked"
    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "" if in_child(lambda: refused(path)) else "a second process gets a lock that is held"


def refused(path: Path) -> bool:
    """Whether the lock cannot be had."""
    with path.open("r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
    return False


def logged(scratch: Path) -> str:
    """A database takes the WAL mode, and another process reads what was committed while it is open."""
    path = scratch / "wal.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            return f"the journal mode stays {mode}"
        database.execute("PRAGMA synchronous = OFF")  # a slow disk's fsync is not what is asked about
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (7)")
        return "" if in_child(lambda: seen(path)) else "another process does not see what was committed"


def seen(path: Path) -> bool:
    """Whether the row is there."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return bool(database.execute("SELECT x FROM t").fetchall() == [(7,)])


def in_child(what: Callable[[], bool]) -> bool:
    """The answer of a forked child."""
    pid = os.fork()
    if pid == 0:
        answer = False
        try:
            answer = what()
        finally:
            os._exit(0 if answer else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


if __name__ == "__main__":
    main()
