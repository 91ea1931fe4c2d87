"""The tail of train.log as a terminal would have shown it: ``\\r`` overwrites, control characters and escape sequences are gone."""

import os
from pathlib import Path

from sitter.tui.lines import plain

KEEP_LINES = 2000
FIRST_BYTES = 256 * 1024
"""How far back the first look goes."""
MAX_LINE = 4000
"""Characters of one line that are kept; somebody logs a tensor every day."""


def overwrite(line: str) -> str:
    """What is left on the row after its carriage returns: each stretch is written over the one before, from the left."""
    shown = ""
    for stretch in line.rstrip("\r").split("\r"):
        stretch = plain(stretch)
        shown = stretch + shown[len(stretch) :]
    return shown.rstrip()


class TrainLog:
    """Reads on from where it stopped. A file that shrank or was replaced is read anew; one that is missing is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self._at = 0
        self._inode = -1
        self._open = ""  # the last line, not ended yet
        self._bytes = b""  # the start of a character that was cut by the end of the file

    def read(self) -> bool:
        """Take in what is new; True where something was. Raises OSError only for what is neither missing nor forbidden."""
        try:
            with self.path.open("rb") as file:
                info = os.fstat(file.fileno())
                fresh = info.st_ino != self._inode or info.st_size < self._at
                if fresh:
                    self.lines, self._open, self._bytes, self._inode = [], "", b"", info.st_ino
                    self._at = max(0, info.st_size - FIRST_BYTES)
                file.seek(self._at)
                data = file.read(4 * FIRST_BYTES)
                if fresh and self._at:
                    data = data[data.find(b"\n") + 1 :]
                self._at = file.tell()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            was, self.lines, self._open, self._at, self._inode = bool(self.lines), [], "", 0, -1
            return was
        if not data:
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        data = self._bytes + data
        whole = len(data)
        for back in range(1, min(4, len(data)) + 1):  # do not cut a character in two
            byte = data[-back]
            if byte & 0xC0 == 0xC0:
                wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                whole = len(data) - back if wanted > back else len(data)
                break
            if byte < 0x80:
                break
        self._bytes = data[whole:]
        *ended, last = (self._open + data[:whole].decode("utf-8", "replace")).split("\n")
        ended = ended[-KEEP_LINES:]
        if self._open and self.lines:
            self.lines.pop()
        self.lines.extend(overwrite(line[-MAX_LINE:]) for line in ended)
        # only what a terminal would still show of a progress bar has to be kept
        self._open = last[-MAX_LINE:]
        if self._open:
            self.lines.append(overwrite(self._open))
        del self.lines[:-KEEP_LINES]
