"""Every test has places of its own for sockets and state, and leaves no process behind; the whole suite runs on all cores."""

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import hypothesis
import pytest

from tests import together

# How long an example takes says nothing on a busy machine. And the same ones each time: a new one is looked for by whoever wants to, with
# `--hypothesis-profile=search`, and not by every run of a suite whose result others wait for.
slow_machine = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("beside others", **slow_machine, derandomize=True)
hypothesis.settings.register_profile("search", **slow_machine)
hypothesis.settings.load_profile("beside others")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Before pytest-xdist looks at its options."""
    if together.wanted(config):
        config.option.numprocesses = together.workers()
        config.option.dist = "loadgroup"  # what is marked as one group is run by one worker, the rest by whoever is free


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C is what Python makes of it, wherever the tests run; and a mark of pytest-xdist is known also where that is not installed."""
    config.addinivalue_line("markers", "xdist_group(name): tests that share what is dear to make, and so run on one worker")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background
        signal.signal(signal.SIGINT, signal.default_int_handler)


_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Which test has failed, for the hook below."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """What a failed test has left open is held by its traceback: collected in the midst of another test, it would fail that one too."""
    done = yield
    if _failed in item.stash:
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return done


def pytest_collection_finish() -> None:
    """What all modules and torch have made stays: no collection, and no look of the agent's for living models, need go through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_places(monkeypatch, request):
    """A short runtime directory (socket paths are limited to 107 bytes), an own registry; processes that still have it are ended."""
    base = Path(tempfile.mkdtemp(prefix="st-"))
    runtime = base / "r"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("SITTER_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_STATE_HOME", str(base / "state"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("SITTER", "SITTER_RUN", "SITTER_MODE", "SITTER_RESUME", "COLUMNS", "LINES"):  # workers of pytest-xdist have those
        monkeypatch.delenv(name, raising=False)
    yield
    end_processes(f"SITTER_RUNTIME_DIR={runtime}")
    shutil.rmtree(base, ignore_errors=True)


def end_processes(mark: str) -> None:
    """SIGKILL to every process but this one whose environment holds ``mark``; returns when they are gone."""
    until = time.monotonic() + 60
    while (left := _killed(mark.encode())) and time.monotonic() < until:  # again: one of them may just have started another
        while left and time.monotonic() < until:
            left = [e for e in left if e.exists() and _state(e) not in "ZX"]
            time.sleep(0.005)


def _killed(mark: bytes) -> list[Path]:
    mine = os.getpid()
    left = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == mine:
            continue
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
                left.append(entry)
    return left


def _state(entry: Path) -> str:
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
