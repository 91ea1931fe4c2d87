"""Into the background, but not before it is known whether it works: whoever started us gets the exit code and the sentence."""

import os
import sys
from collections.abc import Callable

from sitter.errors import SitterError
from sitter_wire.places import PlaceError


def detach() -> Callable[[int], None]:
    """Fork twice into a session of its own. In the background process returns ``report``; the foreground never returns.

    ``report(code)`` lets the foreground process exit with that code (0: it works). If the background process ends without a report, the
    foreground exits 1; and where the foreground was ended before, so does this one: it was not wanted any more. stdout and stderr stay what
    they are until ``quiet`` is called.
    """
    read, write = os.pipe()
    if os.fork() > 0:
        os.close(write)
        answer = os.read(read, 1)
        os._exit(answer[0] if answer else 1)
    os.close(read)
    os.setsid()
    if os.fork() > 0:
        os._exit(0)

    def report(code: int) -> None:
        nonlocal write
        if write >= 0:
            told, write = write, -1
            try:
                os.write(told, bytes([code]))
            except BrokenPipeError:
                sys.exit(1)
            finally:
                os.close(told)

    return report


def quiet(log: str | os.PathLike[str]) -> None:
    """stdin from nowhere, stdout and stderr into ``log``: no terminal or pipe of whoever started us is held any longer."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    into = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(nowhere, 0)
    os.dup2(into, 1)
    os.dup2(into, 2)
    os.close(nowhere)
    os.close(into)


def serve_detached(serve: Callable[[Callable[[], None]], int], log: str | os.PathLike[str], *, stay: bool) -> int:
    """Run ``serve(ready)`` in the background (``stay``: here); its exit code, which is also the foreground's if it never gets ready.

    ``serve`` calls ``ready`` once it works: then the foreground exits 0, and what is said from there on goes into ``log``. A SitterError
    becomes one sentence on stderr.
    """
    report = (lambda code: None) if stay else detach()

    def ready() -> None:
        if not stay:
            quiet(log)
        report(0)

    try:
        code = serve(ready)
    except (SitterError, PlaceError) as e:
        sys.stderr.write(f"sitter: {e}\n")
        code = e.exit_code if isinstance(e, SitterError) else 1
    sys.stderr.flush()
    report(code)
    return code
