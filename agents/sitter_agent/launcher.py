"""The run directory, and the daemon beside it: started where none runs, and again where it died, three times at most."""

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec

from sitter_agent.held_back import look
from sitter_agent.quiet import be_loud
from sitter_wire import rundir
from sitter_wire.places import Endpoints, PlaceError, RunDir, check_own_run, small_file

RUNS = "sitter-runs"
START_S = 20.0
"""The daemon answers within 0.2 to 2 s and goes into the background; a cold disk takes longer."""
SILENT_S = 5.0
"""A daemon pings once a second: so long without a word, its lock is looked at."""
LOOK_S = 1.0
"""Between two looks at when the daemon was heard."""
WAIT_S = 0.1
"""Between two looks, while the daemon starts, at whether the operator waits no longer."""
READERS_S, READER_S = 10.0, 0.02
"""So long commands that read the run are waited for before it is looked again, and so often it is asked whether they are done."""
RESTARTS = 3
"""Of the daemon: one that dies again and again dies of something that starting it does not mend."""
MODES = ("watch", "guard", "act")
ANOTHER = 3
"""Its exit code where another daemon has the run: then all is well."""


def open_run(name: str | None, version: str) -> tuple[RunDir, rundir.RunInfo]:
    """``$SITTER_RUN``, or a new run directory below ``./sitter-runs``. Raises PlaceError."""
    joined = os.environ.get("SITTER_RUN")
    if joined:
        run = RunDir(Path(joined).absolute())
        info = rundir.read(run)
        check_own_run(run)
        for folder in (run.recorder, run.checkpoints, run.reports):
            folder.mkdir(exist_ok=True)
    else:
        command = [sys.executable, *sys.argv] if sys.argv and sys.argv[0] else [sys.executable]
        chosen = name or rundir.default_name(sys.argv[0] if sys.argv else "")
        run = rundir.create(Path.cwd() / RUNS, chosen, command=command, supervised=False, sockets="", version=version)
        info = rundir.read(run)
    return run, info


def endpoints(run: RunDir, info: rundir.RunInfo) -> Endpoints:
    """The addresses that run.toml records; written there by whoever comes first. Raises PlaceError."""
    places = Endpoints.recorded(run.path, info.sockets, used=is_held(run.daemon_lock))
    try:
        places.create()
    except FileNotFoundError:  # recorded, and gone with a reboot
        places = Endpoints.of_run(run.path)
        places.create()
    if info.sockets != str(places.directory):
        rundir.write(run, msgspec.structs.replace(info, sockets=str(places.directory)))
    return places


def mode_of(run: RunDir, info: rundir.RunInfo) -> str:
    """``watch``, ``guard`` or ``act``: as run.toml, $SITTER_MODE or sitter.toml says, in this order.

    The daemon checks them; here it is only named.
    """
    asked = info.mode or os.environ.get("SITTER_MODE", "")
    if asked:
        return asked if asked in MODES else "guard"
    try:
        mode = tomllib.loads(small_file(run.sitter_toml).decode()).get("mode", "guard")
    except (OSError, ValueError, RecursionError):
        return "guard"
    return mode if mode in MODES else "guard"


def healthy_steps(run: RunDir) -> int | None:
    """``[checkpoints] healthy_steps`` of sitter.toml; None where it does not say. Here it only steers what is kept."""
    try:
        found = tomllib.loads(small_file(run.sitter_toml).decode())["checkpoints"]["healthy_steps"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found >= 0 else None


class Launcher:
    """Starts the daemon of one run. ``tend`` costs a comparison and, once a second, one look at when it was heard."""

    def __init__(
        self, run: RunDir, heard: Callable[[], float | None], tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic, command: list[str] | None = None,
    ) -> None:  # fmt: skip
        self._run, self._heard, self._tell, self._clock = run, heard, tell, clock
        # -P: a folder named `sitter` where the script was started must not be taken for the package.
        self._command = command or [sys.executable, "-P", "-m", "sitter.daemon", str(run.path)]
        self.restarts = 0
        self.enabled = False
        self._looked = self._started = clock()
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Start one where none runs. Empty where it watches, else why not."""
        self.enabled = True
        self._started = self._clock()
        if is_held(self._run.daemon_lock):
            return ""
        return self._spawn()

    def tend(self) -> None:
        """Start it again where it died. Called by the control thread; the starting itself is done by a thread that ends with it."""
        now = self._clock()
        if not self.enabled or now - self._looked < LOOK_S:
            return
        self._looked = now
        last = max(self._heard() or 0.0, self._started)
        if now - last < SILENT_S or (self._thread is not None and self._thread.is_alive()):
            return
        if is_held(self._run.daemon_lock):  # stopped or very busy, but there
            return
        if self.restarts >= RESTARTS:
            self.enabled = False
            self._tell(f"the daemon died {self.restarts + 1} times and is not started again: recording only, nobody is watching; "
                       f"see {self._run.daemon_log}")  # fmt: skip
            return
        self._started = now
        self._thread = threading.Thread(target=self._again, name="sitter-launcher", daemon=True)
        self._thread.start()

    def _again(self) -> None:
        try:
            be_loud()
            if not self._readers_leave():
                return
            self.restarts += 1
            why = self._spawn()
            self._tell(
                f"the daemon was gone and is started again ({self.restarts} of {RESTARTS})"
                + (f": {why}" if why else "")
            )
        except Exception as e:  # noqa: BLE001 — no traceback of ours on the user's terminal
            self._tell(f"the daemon is gone and could not be started again ({type(e).__name__}: {e})")

    def _readers_leave(self) -> bool:
        """Whether soon, at some instant, no command that reads the run keeps a daemon out: one that waited in vain would be lost; and one
        command after the other, as of a script that asks again and again, must not put it off for ever."""
        end = time.monotonic() + READERS_S
        while is_held(self._run.daemon_lock, by_readers=True):
            if time.monotonic() >= end:
                return False  # its output waits for a pager, perhaps; it is looked again
            time.sleep(READER_S)
        return True

    def _spawn(self) -> str:
        if not self._command[0]:
            return "this Python does not know its own executable; start one with `sitter attach`"
        try:
            at = self._run.daemon_log.stat().st_size if self._run.daemon_log.exists() else 0
            with self._run.daemon_log.open("ab") as log:
                process = subprocess.Popen(
                    self._command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            code = _waited(process, START_S)
        except subprocess.TimeoutExpired:
            return f"the daemon did not answer within {START_S:.0f} s; see {self._run.daemon_log}"
        except OSError as e:
            return f"the daemon could not be started: {e.strerror}"
        if code in (0, ANOTHER):
            return ""
        return f"the daemon did not start (exit code {code}): {_last_line(self._run.daemon_log, at)}"


def _waited(process: "subprocess.Popen[bytes]", seconds: float) -> int:
    """Its exit code. Raises TimeoutExpired; and what a handler of the script raises (Ctrl-C): then no daemon comes of it."""
    until = time.monotonic() + seconds
    try:
        while True:
            try:
                return process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() >= until:
                    raise
            look()
    except subprocess.TimeoutExpired:  # slow, and maybe there later; no zombie is left, and nothing to be warned of
        with contextlib.suppress(RuntimeError):  # this host gives us no other thread
            threading.Thread(target=process.wait, name="sitter-launcher", daemon=True).start()
        raise
    except BaseException:  # Ctrl-C too: raised again, once the daemon that was begun is ended
        process.terminate()  # what it has sent into the background finds nobody to report to, and ends
        process.wait()
        raise


def is_held(lock: Path, *, by_readers: bool = False) -> bool:
    """Whether another process holds this POSIX lock. Only asks, so whoever wants it at this moment is not refused because of us.

    A command that only reads the run keeps daemons out for that time, and watches nothing: it locks all but the first byte.
    """
    if not sys.platform.startswith("linux"):
        return False  # then the daemon itself finds out, and says so by its exit code
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)  # should somebody have put a pipe there
    except OSError:
        return False
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0 if by_readers else 1, 0))
        return int(struct.unpack("hhqqi4x", answer)[0]) != fcntl.F_UNLCK
    except OSError:
        return False
    finally:
        os.close(fd)


def _last_line(path: Path, since: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(since)
            lines = [
                line.strip() for line in file.read(1 << 16).decode("utf-8", "replace").splitlines() if line.strip()
            ]
    except OSError:
        lines = []
    return lines[-1] if lines else f"see {path}"


__all__ = ["Endpoints", "Launcher", "PlaceError", "endpoints", "is_held", "mode_of", "open_run"]
