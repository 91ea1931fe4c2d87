"""A run, and as much of its daemon as has no socket: a core with a real history, that sends to nobody and has no tick."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sitter.clock import SystemClock
from sitter.config import load
from sitter.control.core import Core
from sitter.paths import look
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire import rundir
from sitter_wire.places import RunDir

HOLDER = """
import fcntl, json, os, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
json.dump({"pid": os.getpid(), "session": sys.argv[2]}, lock)
lock.flush()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path):
    return rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")


@contextlib.contextmanager
def opened(run: RunDir, **other: Any) -> Iterator[Core]:
    """The core of one daemon; what it has written is committed when this ends. ``other``: what is not as usual of what a core is given."""
    usual = {
        "info": look(run).info, "config": load(run.sitter_toml), "preset": "guard", "clock": SystemClock(),
        "send": lambda _: True, "notify": lambda *_: None, "on_gone": lambda: None,
    }  # fmt: skip
    writer = Writer(run.history, on_commit=lambda _: None, clock=SystemClock())
    writer.start()
    try:
        with contextlib.closing(Reader(run.history)) as reader:
            yield Core(run=run, writer=writer, reader=reader, **{**usual, **other})
    finally:
        writer.close()


@contextlib.contextmanager
def living(run: RunDir, session: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is the run's agent and never says anything."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, run.agent_lock, session], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()
