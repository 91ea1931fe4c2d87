"""What cannot be had on one machine, as it looks from here; and time enough, as a busy machine has not."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitter.control import file_question, flow
from sitter.store import writer
from sitter.supervise import group, process
from sitter_wire import local


@pytest.fixture(autouse=True)
def _no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so long a disk, or a process that was started or killed, is given up, or a record is of the past. A test that is about that
    sets its own; to the others it would happen on a machine where nobody has had a turn for some seconds."""
    monkeypatch.setattr(file_question, "PATIENCE_S", 120.0)
    monkeypatch.setattr(flow, "LATE_S", 120.0)
    monkeypatch.setattr(writer, "_CLOSE_WITHIN", 120.0)
    monkeypatch.setattr(writer.Writer.flush, "__defaults__", (120.0,))
    monkeypatch.setattr(group, "KILLED_S", 60.0)
    monkeypatch.setattr(process, "KILLED_S", 60.0)
    monkeypatch.setattr(local, "TRIAL_S", 120.0)


@contextlib.contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """A lock as on another machine, or in another container: its holder has no pid here."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        pytest.skip("nothing here holds a lock without a pid")
    with path.open("w") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        yield
