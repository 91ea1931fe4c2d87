"""Processes of a measurement in a place and a process group of their own: whatever happens, all of them can be ended."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


class Apart:
    """``base`` is a short fresh directory (socket paths are limited to 107 bytes). Kept only where ``keep`` was set."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="st-"))
        runtime = self.base / "r"
        runtime.mkdir(mode=0o700)
        self.keep = False
        self._processes: list[subprocess.Popen[str]] = []
        self.env = {**os.environ, "SITTER_RUNTIME_DIR": str(runtime), "XDG_STATE_HOME": str(self.base / "state")}
        self.env["OMP_NUM_THREADS"] = "1"
        self.env["PYTHONPATH"] = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
        for name in ("SITTER", "SITTER_RUN", "SITTER_MODE", "SITTER_RESUME"):
            self.env.pop(name, None)

    def start(self, module: str, *words: object) -> "subprocess.Popen[str]":
        """``python -m module words…`` in ``base``, its stdout to be read."""
        command = [sys.executable, "-m", module, *map(str, words)]
        process = subprocess.Popen(command, env=self.env, cwd=self.base, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self._processes.append(process)
        return process

    def all(self, module: str, cases: Iterable[tuple[object, ...]]) -> list[dict[str, Any]]:
        """``python -m module PLACE words…`` for each case, at the same time; each prints JSON, or has failed: then there are ``faults``."""
        started = []
        for i, words in enumerate(cases):
            started.append(self.start(module, self.base / f"c{i}", *words))
        out = []
        for process in started:
            text = process.communicate()[0]
            failed = {"faults": [f"ended with {process.returncode}, see what it said above"]}
            out.append(json.loads(text) if process.returncode == 0 else failed)
        return out

    def end(self) -> None:
        """All that was started, and what that has started; the place goes with it."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if not self.keep:
            subprocess.run(["rm", "-rf", str(self.base)], check=True)


@contextlib.contextmanager
def apart() -> Iterator[Apart]:
    """For the time of a measurement."""
    place = Apart()
    try:
        yield place
    finally:
        place.end()
