import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
Sample = dict[str, Any]


class Probe:
    """A process with a Sampler in it, and the control file of the driver that it sees."""

    def __init__(self, folder: Path, library: Path | None) -> None:
        self.folder, self._library = folder, library
        self._control = folder / "control"
        self.calls = folder / "calls"
        self.samples: list[Sample] = []
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None

    def driver(self, *lines: str) -> None:
        """From now on the driver does this."""
        fresh = self._control.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self._control)

    def start(self, *, fast: float = 0.05, slow: float = 0.2, hang: float = 600.0) -> None:
        env = {**os.environ, "STUB_NVML": str(self._control), "STUB_NVML_CALLS": str(self.calls)}
        if self._library is not None:
            env["LD_LIBRARY_PATH"] = str(self._library)
        arguments = [str(self.folder), str(fast), str(slow), str(hang)]
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "probe.py"), *arguments], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def _read(self, out: Any) -> None:
        for line in out:
            self._lines.put(line)
        out.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def watch(self, pid: int | None, *uuids: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"pid": pid, "uuids": uuids}).encode() + b"\n")
        self._process.stdin.flush()

    def until(self, right: Callable[[Sample], Any], seconds: float = 60.0) -> Sample:
        """The first sample from here on for which ``right`` holds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                pytest.fail(f"no such sample within {seconds} s; the last: {self.samples[-1:]}")
            sample = json.loads(line)
            if "closed" in sample:
                pytest.fail("closed")
            self.samples.append(sample)
            if right(sample):
                return sample

    def said(self) -> list[str]:
        return [text for s in self.samples for text in s["alarms"]]

    def close(self) -> float:
        """Seconds that an orderly end takes."""
        assert self._process is not None
        begun = time.monotonic()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(60)
        assert self._process.returncode == 0
        return time.monotonic() - begun

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    source, made = HERE / "stub_nvml.c", folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", str(made), str(source)], check=True)
    return folder


@pytest.fixture
def probe(tmp_path: Path, library: Path) -> Iterator[Probe]:
    made = Probe(tmp_path, library)
    yield made
    made.kill()


@pytest.fixture
def bare_probe(tmp_path: Path) -> Iterator[Probe]:
    made = Probe(tmp_path, None)
    yield made
    made.kill()
