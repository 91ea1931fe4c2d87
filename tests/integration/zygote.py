"""``sitter …`` forked from a process that has imported what every command imports, and opened nothing: a third of the time of a new one.

Each command is a process of its own all the same, with its own directory, environment and pipes, and runs the module as ``python -m`` does.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MODULE = "sitter.cli.main"
OWN = ("PYTHON", "LD_", "LC_", "LANG")
"""What an interpreter or the loader reads as it starts: a command that is given another one of these has to be started."""
ROOT = Path(__file__).parents[2]
BEFORE = dict(os.environ)
"""As it is before any test: what marks the processes of one test, which are ended with it, is not in it."""
AT_MOST = 1 << 18
"""Bytes of one request; an environment and a command line are less."""


class Zygote:
    """The process, as the tests see it. One command at a time."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, AT_MOST)
        words, nowhere = [sys.executable, "-m", __name__, str(theirs.fileno())], subprocess.DEVNULL
        self._process = subprocess.Popen(words, cwd=ROOT, env=BEFORE, pass_fds=[theirs.fileno()], stdin=nowhere, stdout=nowhere)
        theirs.close()
        atexit.register(self.close)

    @staticmethod
    def can(env: Mapping[str, str]) -> bool:
        """Whether a fork of it is what a new interpreter would be."""
        return {k: v for k, v in env.items() if k.startswith(OWN)} == {k: v for k, v in BEFORE.items() if k.startswith(OWN)}

    def run(self, words: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float) -> "subprocess.CompletedProcess[str]":
        """As ``subprocess.run`` with captured output. Raises subprocess.TimeoutExpired."""
        end, pid = time.monotonic() + timeout, 0
        pipes = [os.pipe(), os.pipe()]
        try:
            told = json.dumps({"words": list(words), "cwd": str(cwd), "env": dict(env)}).encode()
            socket.send_fds(self._ours, [told], [write for _, write in pipes])
            for _, write in pipes:
                os.close(write)
            pid = int(self._ours.recv(100))
            said = self._read([read for read, _ in pipes], end, words, timeout)
            code = int(self._within(end, words, timeout).recv(100))
            pid = 0
        finally:
            for read, _ in pipes:
                os.close(read)
            if pid:  # whatever has happened: it is not left running
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        out, err = (text.decode("utf-8", "replace") for text in said)
        return subprocess.CompletedProcess(list(words), code, out, err)

    def _read(self, fds: list[int], end: float, words: Sequence[str], timeout: float) -> list[bytes]:
        """Until the last writer has closed its end: a daemon that kept it would be waited for, as by any shell."""
        said: dict[int, list[bytes]] = {fd: [] for fd in fds}
        with selectors.DefaultSelector() as ready:
            for fd in fds:
                ready.register(fd, selectors.EVENT_READ)
            while ready.get_map():
                if (left := end - time.monotonic()) <= 0:
                    raise subprocess.TimeoutExpired(list(words), timeout)
                for key, _ in ready.select(left):
                    data = os.read(key.fd, 1 << 16)
                    said[key.fd].append(data)
                    if not data:
                        ready.unregister(key.fd)
        return [b"".join(parts) for parts in said.values()]

    def _within(self, end: float, words: Sequence[str], timeout: float) -> socket.socket:
        with selectors.DefaultSelector() as ready:
            ready.register(self._ours, selectors.EVENT_READ)
            if not ready.select(max(0.0, end - time.monotonic())):
                raise subprocess.TimeoutExpired(list(words), timeout)
        return self._ours

    def close(self) -> None:
        """It ends by itself when nobody can ask any more."""
        atexit.unregister(self.close)
        self._ours.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()


def main(asks: socket.socket) -> None:
    """In the zygote: fork for each request, and say pid and exit code."""
    import sitter.cli.common
    import sitter.offline  # noqa: F401 — what every command needs, and what those do that find no daemon: read once

    gc.collect()
    gc.freeze()
    while True:
        told, fds, _, _ = socket.recv_fds(asks, AT_MOST, 2)
        if not told:
            return
        pid = os.fork()
        if pid == 0:
            break
        for fd in fds:
            os.close(fd)
        asks.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        asks.send(str(os.waitstatus_to_exitcode(status)).encode())
    asks.close()
    for target, fd in enumerate(fds, 1):
        os.dup2(fd, target)
        os.close(fd)
    given = json.loads(told)
    os.environ.clear()
    os.environ.update(given["env"])
    os.chdir(given["cwd"])
    sys.argv[1:] = given["words"]
    sys.path[0] = given["cwd"]
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
