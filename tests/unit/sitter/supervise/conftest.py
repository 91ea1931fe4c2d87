import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sitter_wire.places import RunDir


def _started_in(path: Path) -> Iterator[psutil.Process]:
    """Processes that carry this one test's own folder in their environment or command line; nobody else's ever do.

    Never by a pid out of a file: the tests write damaged ones, and a signal to the group 1 goes to every process there is.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid():
                continue
            told = process.environ().get("SITTER_RUN")
            if told == str(path) or (str(path) in process.cmdline() and "parent.py" in " ".join(process.cmdline())):
                yield process


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    """A run directory; whatever was started in it is ended afterwards."""
    path = tmp_path.resolve() / "a run"
    path.mkdir()
    yield RunDir(path)
    for process in list(_started_in(path)):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _until(right: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = right()
        if found:
            return found
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.01)


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits for what another process does, where there is no event."""
    return _until
