"""The files of sessions that are over and that are of no more use: a run that has ended leaves no second copy of its history."""

import contextlib
import errno
import logging
import os
from pathlib import Path

from sitter.errors import StoreError
from sitter.ingest import files
from sitter.locks import is_held, session_of
from sitter.store.reader import Reader
from sitter_wire.places import RunDir

log = logging.getLogger("sitter.daemon")


def delete_spent(run: RunDir) -> int:
    """Delete what is in the history to its last record; returns how many segments went. For a daemon that has left and closed its
    history. The next one may be at work already; it asks the files for nothing that the history holds. A segment that cannot be read stays
    for whoever can, and its whole session with it."""
    folders = files.sessions(run.recorder)
    agent = run.agent_lock
    # Asked after the listing: of the others that are listed, none is written any more.
    living = session_of(agent) if is_held(agent) else ""
    if living is None or not folders:
        return 0  # somebody writes, and it is not known which
    try:
        reader = Reader(run.history)
        try:
            stored = reader.sequences()
        finally:
            reader.close()
        _sync(run.history)
    except (StoreError, OSError) as e:
        log.warning("the recorder's files stay: %s", e)
        return 0
    deleted = 0
    for folder in folders:
        if folder.name == living:
            continue
        if folder.name in stored:
            deleted += _delete(folder, stored[folder.name])
        elif files.never_began(folder):
            deleted += _unlink(folder)
        else:
            continue
        _delete_empty(run.reports / f"stacks-{folder.name}.txt")
    return deleted


def _sync(history: Path) -> None:
    """SQLite syncs what it has committed when the last who has it open leaves, and somebody may be reading it. To be called where this
    process has it open nowhere: closing any descriptor of it would give back SQLite's locks. Raises OSError."""
    real = history.resolve()  # a link, where the run lies on a network file system
    for path in (real, real.with_name(f"{real.name}-wal")):
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _delete(folder: Path, stored: int) -> int:
    paths = files.segments(folder)
    if files.unreadable(folder):
        return 0
    seen = False
    for segment in files.read(folder, stored):
        if segment.records:
            return 0
        seen = True
    if paths and not seen:
        return 0  # the last of them could not be read to its end: a disk that fails
    return _unlink(folder)


def _unlink(folder: Path) -> int:
    deleted = 0
    try:
        # The last one first: should it be cut short, the next daemon finds one by which it can tell that all is stored.
        for path in reversed(files.segments(folder)):
            path.unlink(missing_ok=True)
            deleted += 1
        folder.rmdir()
    except FileNotFoundError:
        pass  # somebody else was quicker
    except OSError as e:
        if e.errno == errno.ENOTEMPTY:
            return deleted  # word lies in it of what went before it was committed
        log.warning("the recorder's files of a session that is over stay: %s", e)
    return deleted


def _delete_empty(stacks: Path) -> None:
    """Where the stacks of a process that was killed would have come."""
    with contextlib.suppress(OSError):
        if not stacks.stat().st_size:
            stacks.unlink()
