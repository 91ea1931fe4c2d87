"""``[checkpoints] after = CMD``: what the user wants done with every verified checkpoint, such as copying it somewhere else."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

LOG = "after.log"
MOST_LOG = 4 << 20
"""Bytes; beyond it what was said so far becomes ``after.log.1``: progress bars of a month would fill the disk of the checkpoints."""
PLACEHOLDERS = ("path", "name", "step", "branch", "run", "directory", "bytes", "sha256")
KILL_S = 5.0
_NAMED = re.compile(r"(?<!\$)\{(" + "|".join(PLACEHOLDERS) + r")\}")
ENDS = (signal.SIGTERM, signal.SIGKILL)


class Outcome(NamedTuple):
    """``said``: its last line. ``code`` None: it was ended after the time-out, or could not be started."""

    step: int
    branch: int
    seconds: float
    code: int | None
    said: str


def filled(command: str, values: Mapping[str, object]) -> str:
    """``{path}`` and its kin, quoted for the shell; other braces are the shell's own."""
    return _NAMED.sub(lambda m: shlex.quote(str(values[m[1]])), command)


class After:
    """One command at a time, in a session of its own. It is given the checkpoint's path; whatever it does, the training goes on."""

    def __init__(self, command: str, run: Path, timeout_s: float, on_end: Callable[[Outcome], None]) -> None:
        """``on_end`` is called in the thread that waited."""
        self._command, self._run, self._timeout_s, self._on_end = command, run, timeout_s, on_end
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether one runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, path: Path, *, step: int, branch: int, nbytes: int, sha256: str) -> None:
        """Begin with this checkpoint. Only where none is ``busy``."""
        values = {
            "path": path, "name": path.name, "step": step, "branch": branch, "run": self._run.name, "directory": self._run,
            "bytes": nbytes, "sha256": sha256,
        }  # fmt: skip
        work = (filled(self._command, values), step, branch)
        self._thread = threading.Thread(target=self._work, args=work, name="sitter-after", daemon=True)
        self._thread.start()

    def _work(self, command: str, step: int, branch: int) -> None:
        began = time.monotonic()
        environment = {k: v for k, v in os.environ.items() if k not in ("SITTER_RUN", "SITTER_RESUME")}
        log = self._run / LOG
        try:
            if log.exists() and log.stat().st_size > MOST_LOG:
                log.replace(log.with_name(f"{LOG}.1"))
            with log.open("ab") as out:
                since = out.tell()
                process = subprocess.Popen(
                    ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                    env={**environment, "SITTER_RUN_DIR": str(self._run)}, cwd=self._run,
                )  # fmt: skip
                code = _wait(process, self._timeout_s)
            said = _last_line(log, since)
        except OSError as e:
            code, said = None, f"it could not be started: {e.strerror}"
        except ValueError as e:  # a NUL in it
            code, said = None, f"it could not be started: {e}"
        self._on_end(Outcome(step, branch, time.monotonic() - began, code, said))


def _wait(process: "subprocess.Popen[bytes]", timeout_s: float) -> int | None:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pass
    for number in ENDS:  # both in any case: what it started may be more stubborn than the shell
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(KILL_S)
    return None


def _last_line(log: Path, since: int) -> str:
    with log.open("rb") as file:
        file.seek(max(since, os.fstat(file.fileno()).st_size - 4096))
        lines = file.read().decode("utf-8", "replace").split("\n")
    shown = ("".join(c for c in line if c.isprintable()).strip() for line in reversed(lines))
    return next((line[:300] for line in shown if line), "")
