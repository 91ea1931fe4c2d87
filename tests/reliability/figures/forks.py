"""Children forked from a process that has imported everything and opened nothing: 30 ms each instead of 300."""

import os
from collections.abc import Callable
from pathlib import Path


def forked(what: Callable[[], object], said: Path | None = None) -> int:
    """Pid of a child that does ``what`` and ends: with 0, with the exit code it asked for, or with 1 where it failed. What it prints is
    appended to ``said``; None: it goes where ours goes."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if said is not None:
            into = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(into, 1)
            os.dup2(into, 2)
        what()
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)
