"""The small parent of a training: it starts it, forwards signals to it, waits for it, and writes down how it ended.

``python parent.py [--grace S] RUN_DIR -- CMD…`` (or ``python -m sitter.supervise.parent``). Standard library only, so that
it stays small for days and imports nothing that an upgrade could change under it.

It forks twice into a session of its own: closing the terminal, or killing whoever launched it, ends nothing. The process in
front stays just long enough to print one line of JSON: ``{"parent", "pid", "started"}``, and also ``code`` and ``signal``
where the training ended within ``--grace`` seconds, or ``{"error"}``. What the training prints goes into train.log, a file
and never a pipe: should this parent die, the training does not even notice.

Files in the run directory: ``parent.pid`` (locked while it lives), ``train.pid``, and at the end ``exit.json``:
``{"code", "signal", "time", "started", "pid", "error"}``.
"""

import errno
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

PARENT_PID, TRAIN_PID, EXIT, LOG = "parent.pid", "train.pid", "exit.json", "train.log"

AT_ONCE_S = 5.0
"""A training that ends with an error before it is this old is said to have died at once, with its last words."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
NOT_FOUND, NOT_EXECUTABLE, BUSY = 127, 126, 125
"""Codes in exit.json where nothing could be started; the first two as a shell has them."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def start_ticks(pid: int) -> int | None:
    """When ``pid`` was started, in clock ticks since boot: pid, this and the boot id name one process for ever. Linux only."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def boot_id() -> str | None:
    """Differs after every boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def identity(pid: int, started: float) -> dict[str, Any]:
    """What a pid file says: enough never to take a reused pid for this process."""
    return {"pid": pid, "started": started, "ticks": start_ticks(pid), "boot": boot_id()}


def why_not_started(command: list[str], e: OSError) -> tuple[int, str]:
    """Code and sentence for a command that could not be executed."""
    name = command[0]
    found = shutil.which(name) if os.sep not in name else name
    if isinstance(e, FileNotFoundError):
        if found and Path(found).exists():
            return NOT_FOUND, f"{name} cannot be started: the interpreter its first line names is not there; mend that line"
        where = "there is no such file" if os.sep in name else "it is in no directory of PATH"
        return NOT_FOUND, f"the training command {name} was not found: {where}; check its spelling"
    if isinstance(e, PermissionError):
        if Path(name).is_dir():
            return NOT_EXECUTABLE, f"the training command {name} is a directory; name a program"
        return NOT_EXECUTABLE, f"the training command {name} is not executable; chmod +x it, or name its interpreter"
    if e.errno == errno.ENOEXEC:
        return NOT_EXECUTABLE, f"{name} is not a program: begin it with a #! line, or start it by its interpreter"
    return NOT_EXECUTABLE, f"the training command {name} cannot be started: {e.strerror}"


def last_words(log: Path, since: int) -> str:
    """The last line that was printed into the log after ``since`` bytes."""
    try:
        with log.open("rb") as f:
            f.seek(max(since, log.stat().st_size - 4096))
            lines = f.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:300] if lines else ""


class ExitFile:
    """exit.json, by temp file and rename. Its space is taken beforehand, so that a disk that fills up cannot swallow it."""

    def __init__(self, run: Path) -> None:
        self._path = run / EXIT
        self._temp = run / f"{EXIT}.new"
        self._fd = os.open(self._temp, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(self._fd, 0, 4096)
        except (OSError, AttributeError):
            pass  # a file system, or a system, without it: then the end is written as well as it can be
        self._path.unlink(missing_ok=True)  # of an earlier training in this run

    def write(self, about: dict[str, Any]) -> None:
        """Raises OSError, but not before an hour where the disk is full."""
        data = json.dumps(about).encode() + b"\n"
        for _ in range(360):
            try:
                os.pwrite(self._fd, data, 0)
                os.ftruncate(self._fd, len(data))
                os.fsync(self._fd)
                self._temp.replace(self._path)
                return
            except OSError as e:
                if e.errno not in _FULL:
                    raise
                time.sleep(10)


class Parent:
    """One training, from start to end. ``report`` is a descriptor of the process in front; it may be gone at any time."""

    def __init__(self, run: Path, command: list[str], report: int) -> None:
        self._run, self._command, self._report = run, command, report
        self._child: int | None = None
        self._early: list[int] = []

    def go(self) -> None:
        """Start, wait, write it down."""
        lock = self._claim()
        if lock is None:
            self._say(error=f"another training runs in {self._run.name}; stop it first, or give the new one another name")
            return
        log = os.open(self._run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for target, source in ((0, nowhere), (1, log), (2, log)):
            os.dup2(source, target)
        for forwarded in FORWARDED:
            signal.signal(forwarded, self._forward)
        signal.signal(signal.SIGHUP, lambda *_: None)  # not SIG_IGN, which the training would inherit
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        ended, since, started = ExitFile(self._run), os.fstat(log).st_size, time.time()
        try:
            child = subprocess.Popen(self._command, env=self._environment(), process_group=0)
        except OSError as e:
            code, text = why_not_started(self._command, e)
            self._end(ended, pid=None, started=started, code=code, number=None, error=text)
            return
        self._child = child.pid
        for number in self._early:
            self._forward(number, None)
        self._pid_file(TRAIN_PID, identity(child.pid, started))
        self._say(parent=os.getpid(), pid=child.pid, started=started)
        status = child.wait()
        self._child = None
        lived = time.time() - started
        error = ""
        if status > 0 and lived < AT_ONCE_S:
            said = last_words(self._run / LOG, since)
            error = f"the training ended at once (after {lived:.1f} s) with exit code {status}"
            error += f": {said}" if said else ""
        self._end(
            ended, pid=child.pid, started=started, code=status if status >= 0 else None,
            number=-status if status < 0 else None, error=error,
        )  # fmt: skip

    def _claim(self) -> int | None:
        """Hold parent.pid for life; None where another parent does."""
        fd = os.open(self._run / PARENT_PID, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(identity(os.getpid(), time.time())).encode() + b"\n", 0)
        return fd

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "SITTER_RUN": str(self._run), "PYTHONUNBUFFERED": "1"}

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if self._child is None:
            self._early.append(number)
            return
        try:
            os.killpg(self._child, number)
        except ProcessLookupError:
            pass  # it has just ended, and is being waited for

    def _pid_file(self, name: str, about: dict[str, Any]) -> None:
        temp = self._run / f"{name}.new"
        try:
            temp.write_text(json.dumps(about) + "\n")
            temp.replace(self._run / name)
        except OSError as e:  # a full disk must not keep a training from running that has already begun
            sys.stderr.write(f"sitter: cannot write {name}: {e.strerror}\n")

    def _end(
        self, file: ExitFile, *, pid: int | None, started: float, code: int | None, number: int | None, error: str
    ) -> None:
        times = {"time": time.time(), "started": started}
        file.write({"code": code, "signal": number, "pid": pid, "error": error, **times})
        self._say(code=code, signal=number, **({"error": error} if error else {}))

    def _say(self, **what: Any) -> None:
        try:
            os.write(self._report, json.dumps(what).encode() + b"\n")
        except OSError:
            pass  # whoever launched us has left, as it should


def wait_in_front(reports: int, grace: float) -> dict[str, Any]:
    """What the process in front prints: the start, and the end as well where that comes within ``grace`` seconds."""
    told: dict[str, Any] = {}
    buffer, deadline = b"", None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reports], [], [], left)[0]:
            return told
        chunk = os.read(reports, 65536)
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            told |= json.loads(line)
        if "code" in told or "error" in told:
            return told
        if not chunk:
            return told or {"error": f"the parent of the training died before it could start it; {LOG} may say why"}
        if "pid" in told and deadline is None:
            deadline = time.monotonic() + grace


def main(arguments: list[str]) -> NoReturn:
    """See the module's text. Exit code of the process in front: 0 the training was started, 1 not, 2 asked wrongly."""
    grace = 0.5
    if arguments[:1] == ["--grace"]:
        grace, arguments = float(arguments[1]), arguments[2:]
    if len(arguments) < 3 or arguments[1] != "--":
        sys.stderr.write("usage: python -m sitter.supervise.parent [--grace S] RUN_DIR -- CMD…\n")
        sys.exit(2)
    run, command = Path(arguments[0]).resolve(), arguments[2:]
    reports, report = os.pipe()
    between = os.fork()
    if between == 0:
        os.close(reports)
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        parent = Parent(run, command, report)
        try:
            parent.go()
        except OSError as e:
            os.write(report, json.dumps({"error": f"cannot use the run directory {run}: {e}"}).encode() + b"\n")
            os._exit(1)
        os._exit(0)
    os.close(report)
    os.waitpid(between, 0)
    told = wait_in_front(reports, grace)
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    sys.exit(0 if "pid" in told and not told.get("error") else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
