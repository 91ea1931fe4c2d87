"""The stacks of a process that cannot be asked: its faulthandler by a signal, py-spy from outside, and what the kernel knows.

Each of them is bounded in time. Runs in a thread of its own.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ANSWER_S = 3.0
"""faulthandler needs some milliseconds; a host that swaps more."""
SETTLED_S = 0.1
PY_SPY_S = 15.0
MOST = 400_000
"""Characters that are kept of one dump."""


def by_signal(pid: int, tid: int, number: int, file: Path) -> str:
    """What faulthandler appends to ``file`` when the thread ``tid`` alone gets the signal; empty where it may not be sent, or nobody
    answers. It may be sent only to a process that has a handler for it now, and runs: whoever is stopped would answer much later."""
    if number <= 0 or tid <= 0 or not _catches(pid, tid, number):
        return ""
    try:
        before = file.stat().st_size
    except OSError:
        return ""
    if not _send(pid, tid, number):
        return ""
    end, size, since = time.monotonic() + ANSWER_S, before, time.monotonic()
    while time.monotonic() < end:
        time.sleep(0.02)  # a file tells nobody that it grew
        with contextlib.suppress(OSError):
            now = file.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
        if size > before and time.monotonic() - since > SETTLED_S and not _at_work(pid, tid):
            break
    with contextlib.suppress(OSError), file.open("rb") as f:
        f.seek(before)
        return f.read(MOST).decode(errors="replace")
    return ""


def by_py_spy(pid: int) -> str:
    """py-spy's dump, without stopping the process; empty where it is not installed or not allowed to look (ptrace)."""
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "dump", "--full-filenames", "--nonblocking", "--pid", str(pid)], capture_output=True, text=True,
            timeout=PY_SPY_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout[:MOST] if done.returncode == 0 else ""


def _at_work(pid: int, tid: int) -> bool:
    """Whether the thread still writes: it has no turn, or waits for the disk, in the midst of it."""
    try:
        return Path(f"/proc/{pid}/task/{tid}/stat").read_text().rpartition(")")[2].split()[0] in "RD"
    except (OSError, IndexError):
        return False


def _send(pid: int, tid: int, number: int) -> bool:
    """To this thread of this process and no other: the C calls of the others are not cut short."""
    with contextlib.suppress(AttributeError, OSError):
        return int(ctypes.CDLL(None, use_errno=True).tgkill(pid, tid, number)) == 0
    return False


def _catches(pid: int, tid: int, number: int) -> bool:
    try:
        told = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/task/{tid}/status").read_text().splitlines() if ":\t" in line
        )
        bit = 1 << (number - 1)
        mine = int(told["Uid"].split()[0]) == os.getuid()
        return mine and bool(int(told["SigCgt"], 16) & bit) and not int(told["SigBlk"], 16) & bit and told["State"][0] not in "TtZX"
    except (OSError, KeyError, ValueError, IndexError):
        return False
