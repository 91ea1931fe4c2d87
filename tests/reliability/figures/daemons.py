"""The real daemon, many times: forked from a process that has imported it and opened nothing, which saves the half second of imports."""

import os
import signal
import sys
import time
from pathlib import Path

from sitter.daemon import main
from sitter_wire.places import RunDir
from tests.reliability.figures.forks import forked


def fork_daemon(run: RunDir, said: Path) -> int:
    """Its pid; it is what ``python -m sitter.daemon RUN --foreground`` runs, to the line. stdout and stderr are appended to ``said``."""

    def daemon() -> None:
        sys.argv = ["sitter.daemon", str(run.path), "--foreground"]
        main()

    return forked(daemon, said)


def kill(pid: int) -> None:
    """SIGKILL to a child of ours, and its remains."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def ended(pid: int, within: float) -> int | None:
    """Exit code of a child of ours that ends by itself; None where it does not, within so many seconds."""
    until = time.monotonic() + within
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.01)
