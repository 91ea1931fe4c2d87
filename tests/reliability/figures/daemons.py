"""The real daemon, many times: forked from a process that has imported it and opened nothing, which saves the half second of imports."""

import os
import signal
import sys
import time
from pathlib import Path

from sitter.daemon import main
from sitter_wire.places import RunDir


def fork_daemon(run: RunDir, said: Path) -> int:
    """Its pid; it is what ``python -m sitter.daemon RUN --foreground`` runs, to the line. stdout and stderr are appended to ``said``."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        into = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(into, 1)
        os.dup2(into, 2)
        sys.argv = ["sitter.daemon", str(run.path), "--foreground"]
        main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


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
