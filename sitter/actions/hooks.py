"""``--then CMD``: what the user wants done once the run is finished or given up."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

LOG = "then.log"


def then(
    command: str, run: Path, environment: Mapping[str, str] | None = None, on_end: Callable[[int], None] | None = None
) -> int:
    """Start ``command`` by ``/bin/sh``, detached; returns its pid. Raises OSError where not even the shell can be started.

    It has a session of its own, no input, and its output goes to ``then.log`` in the run directory, if that can be written: it lives on
    when the daemon ends. It gets ``environment`` and SITTER_RUN_DIR, but never SITTER_RUN: a next training that it starts would take that
    for its own run and record into this one. ``on_end(exit code)``, negative for a signal, is called in a thread if the daemon still
    lives then.
    """
    told = {**os.environ, **(environment or {}), "SITTER_RUN_DIR": str(run)}
    told = {k: v for k, v in told.items() if k not in ("SITTER_RUN", "SITTER_RESUME")}
    with contextlib.ExitStack() as opened:
        try:
            log: IO[bytes] | int = opened.enter_context((run / LOG).open("ab"))
        except OSError:
            log = subprocess.DEVNULL
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=told, start_new_session=True
        )

    def wait() -> None:
        code = process.wait()
        if on_end is not None:
            on_end(code)

    threading.Thread(target=wait, name="sitter-then", daemon=True).start()
    return process.pid
