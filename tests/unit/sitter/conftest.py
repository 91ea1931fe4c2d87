"""What cannot be had on one machine, as it looks from here."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """A lock as on another machine, or in another container: its holder has no pid here."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        pytest.skip("nothing here holds a lock without a pid")
    with path.open("w") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        yield
