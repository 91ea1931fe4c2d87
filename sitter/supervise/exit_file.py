"""How a training ended, written down by its small parent. Standard library only, since the parent has this."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

EXIT = "exit.json"

_FULL = (errno.ENOSPC, errno.EDQUOT)


def last_words(log: Path, since: int) -> str:
    """The last line that was printed into the log after ``since`` bytes."""
    try:
        with log.open("rb") as f:
            f.seek(max(since, log.stat().st_size - 4096))
            lines = f.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:300] if lines else ""


class ExitFile:
    """exit.json, by temp file and rename. Its space is taken beforehand, so that a disk that fills up cannot swallow it."""

    def __init__(self, run: Path) -> None:
        self._path = run / EXIT
        self._temp = run / f"{EXIT}.new"
        self._fd = os.open(self._temp, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(self._fd, 0, 4096)
        except (OSError, AttributeError):
            pass  # a file system, or a system, without it: then the end is written as well as it can be
        self._path.unlink(missing_ok=True)  # of an earlier training in this run

    def write(self, about: dict[str, Any]) -> None:
        """Raises OSError, but not before an hour where the disk is full."""
        data = json.dumps(about).encode() + b"\n"
        for _ in range(360):
            try:
                os.pwrite(self._fd, data, 0)
                os.ftruncate(self._fd, len(data))
                os.fsync(self._fd)
                self._rename()
                return
            except OSError as e:
                if e.errno not in _FULL:
                    raise
                time.sleep(10)

    def _rename(self) -> None:
        temp = self._temp
        if not (temp.exists() and os.path.samestat(temp.stat(), os.fstat(self._fd))):
            temp = Path(f"/proc/self/fd/{self._fd}").readlink()  # the run directory was moved, and another may be called so by now
        temp.replace(temp.with_name(EXIT))
