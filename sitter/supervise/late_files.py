"""Small files that a full disk may not take at once. Standard library only, since the small parent has this.

Each is written by temp file and rename. What was not taken is tried again by an alarm, whose handler Python runs between any two steps of
what the process is doing, in the midst of another write too: so nothing is ever written twice at a time.
"""

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

LATE_S = 1
"""So often a disk that was full is tried again."""


class LateFiles:
    """The files of one directory, from one thread. Only the newest content of each counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, bytes] = {}
        self._complained: set[str] = set()
        self._writing = self._alarms = False

    def try_again(self) -> None:
        """From now on what is not on disk is tried again, by SIGALRM, which is this process's only one."""
        signal.signal(signal.SIGALRM, lambda *_: self._write())
        self._alarms = True

    def put(self, name: str, about: dict[str, Any]) -> None:
        """One object of JSON. Never raises OSError: what could not be written is said once, on stderr."""
        self._waiting[name] = json.dumps(about).encode() + b"\n"
        self._write()

    def _write(self) -> None:
        if self._writing:
            return  # the alarm, in the midst of a write: whoever writes sets it anew
        self._writing = True
        try:
            for name in list(self._waiting):
                self._write_one(name)
        finally:
            self._writing = False
        if self._waiting and self._alarms:
            signal.alarm(LATE_S)

    def _write_one(self, name: str) -> None:
        temp = self._folder / f"{name}.new"
        try:
            temp.write_bytes(self._waiting[name])
            temp.replace(self._folder / name)
        except OSError as e:
            with contextlib.suppress(OSError):  # a file system that was made read-only refuses this as well
                temp.unlink()
            if name not in self._complained:
                sys.stderr.write(f"sitter: cannot write {name} yet: {e.strerror}\n")
                self._complained.add(name)
        else:
            del self._waiting[name]
