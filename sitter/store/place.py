"""Whether the history still lies where its writer opened it, and putting it back where it was deleted or replaced.

SQLite goes on writing to a file that has no name any more: every commit succeeds, the agent deletes what is committed, and with the
connection all of it is gone. So nothing is committed there; and as long as that connection is open, it has the whole history.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sitter.store.aside import set_aside
from sitter.store.schema import GONE

log = logging.getLogger(__name__)

PARTS = ("", "-wal")
"""Of the name: the database, and what was committed since SQLite last moved it there."""
REPLACED = "replaced"
PUT_BACK_WITHIN = 600.0
"""Seconds that it is waited for: a copy of all of it takes as long as the disk needs, and without it all is lost."""

_Files = list[tuple[int, int] | None]
"""Device and inode of each; None where it is not there."""


class Place:
    """Of one open history, known from its first commit on."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()  # a link, where the run lies on a network file system
        self._files: _Files | None = None
        self._folder = _identity(self._path.parent)
        self.puts_back = False
        """Whether ``put_back`` has begun."""

    def take(self) -> None:
        """After a commit: what lies there the first time is the history."""
        if self._files is None:
            self._files = self._found()

    def check(self) -> None:
        """Before a commit. Raises sqlite3.OperationalError where one of its files is gone, or another's. Where the whole run directory was
        moved or removed it goes on: the history is with it, and nowhere else is there a place for it."""
        if self.lost():
            raise sqlite3.OperationalError(GONE)

    def lost(self) -> bool:
        """The same as a question."""
        return self._files is not None and self._found() != self._files and _identity(self._path.parent) == self._folder

    def put_back(self, connection: sqlite3.Connection, commit: Callable[[], bool], now: float) -> None:
        """Everything that ``connection`` knows, and what ``commit`` adds, under the old name; what lies there by now is moved aside.
        ``now`` in unix seconds. Where that fails it is said in the log."""
        self.puts_back, self._files = True, None
        temp = self._path.with_name(f"{self._path.name}.back")
        try:
            if not commit():
                log.error("what was to be stored last could not be: it stands above")
            temp.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(temp)) as copy:
                connection.backup(copy)
            if any(self._found()):
                log.error("what lay in the history's place is kept as %s", set_aside(self._path, now, why=REPLACED).name)
            temp.replace(self._path)
        except (OSError, sqlite3.Error) as e:
            temp.unlink(missing_ok=True)
            log.error("the history could not be put back at %s: %s", self._path, e)
        else:
            log.warning("the history had been deleted or replaced, and is put back: %s", self._path)

    def _found(self) -> _Files:
        return [_identity(self._path.with_name(self._path.name + part)) for part in PARTS]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino
