"""Why did the training die? From its last words, its exit, the kernel's log and its cgroup's count. Unknown stays unknown."""

import os
import re
import signal
import time
from pathlib import Path
from typing import NamedTuple

from sitter.model import Struct

TAIL = 64 << 10
"""Bytes of train.log that are searched for a known error."""
LINES = 12
WIDTH = 400
AROUND_S = 120.0
"""A kernel message so long before the end, or a little after it, belongs to it."""
KMSG = Path("/dev/kmsg")
MOST_KMSG = 20_000

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# What the last lines say, and what that means; the first that fits anywhere wins, so the special stands before the general.
_KNOWN = (
    (re.compile(r"CUDA out of memory[^\n]*|CUDA error: out of memory|cudaErrorMemoryAllocation"), "the GPU's memory ran out"),
    (re.compile(r"CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED"), "the GPU's memory ran out (inside cuDNN or cuBLAS)"),
    (re.compile(r"uncorrectable ECC error[^\n]*"), "the GPU's memory had an error that could not be corrected"),
    (re.compile(r"CUDA error: device-side assert triggered"), "an index was out of range in a GPU kernel (device-side assert)"),
    (re.compile(r"CUDA error: an illegal memory access[^\n]*"), "a GPU kernel touched memory that is not its own"),
    (re.compile(r"CUDA error: unspecified launch failure"), "a GPU kernel failed"),
    (re.compile(r"CUDA driver error[^\n]*|CUDA error[^\n]*|CUBLAS_STATUS_\w+|CUDNN_STATUS_\w+"), "a CUDA error"),
    (re.compile(r"NCCL (?:error|WARN)[^\n]*|ncclSystemError|ncclInternalError"), "an NCCL error"),
    (re.compile(r"DataLoader worker \(pid[^)]*\) is killed by signal: Killed"), "a DataLoader worker was killed, most often for memory"),
    (re.compile(r"insufficient shared memory \(shm\)|bus error", re.IGNORECASE), "shared memory (/dev/shm) ran out"),
    (re.compile(r"No space left on device|Errno 28"), "the disk is full"),
    (re.compile(r"Disk quota exceeded|Errno 122"), "the disk quota is used up"),
    (re.compile(r"Too many open files|Errno 24"), "it had too many open files"),
    (re.compile(r"Cannot allocate memory|\bMemoryError\b|std::bad_alloc|DefaultCPUAllocator: can't alloc[^\n]*"), "host memory ran out"),
    (re.compile(r"Stale file handle|Input/output error|Transport endpoint is not connected"), "a file system went away"),
)  # fmt: skip
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)(?:: .*)?$")


class Death(Struct, frozen=True):
    """``how``: ``exit code 1``, ``ended by SIGKILL``. ``cause``: one sentence, empty where it is not known. ``lines``: train.log's last.

    ``kernel``: what the kernel's log said around that time. ``xids``: numbers of the GPU's errors in it.
    """

    how: str
    cause: str = ""
    lines: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()
    xids: tuple[int, ...] = ()

    def sentence(self) -> str:
        """Both in one, and nothing twice."""
        if self.how in self.cause:
            return self.cause
        return f"{self.how}: {self.cause}" if self.cause else self.how


class KernelLine(NamedTuple):
    """A message of the kernel. ``at``: unix seconds."""

    at: float
    text: str


def examine(
    log: Path, *, code: int | None, number: int | None, pid: int | None, ended: float | None, span: tuple[int, int] | None = None,
    oom_kills: int | None = None, error: str = "", kernel: list[KernelLine] | None = None,
) -> Death:  # fmt: skip
    """Never raises. ``span``: where its output lies in ``log`` (bytes); ``ended``: unix seconds; ``kernel``: None = ask it."""
    text = tail(log, span)
    lines = tuple(readable(text)[-LINES:])
    said = around(kernel_log() if kernel is None else kernel, ended)
    mine = tuple(k.text for k in said if _of(k.text, pid))
    return Death(
        how=in_words(code, number),
        cause=_cause(text, lines, mine, number, oom_kills) or error,
        lines=lines,
        kernel=mine,
        xids=tuple(int(m[1]) for t in mine if (m := re.search(r"NVRM: Xid \([^)]*\): (\d+)", t))),
    )


def _cause(text: str, lines: tuple[str, ...], kernel: tuple[str, ...], number: int | None, oom_kills: int | None) -> str:
    if any("Killed process" in t for t in kernel):
        return "the kernel's out-of-memory killer ended it (its log says so)"
    if number == signal.SIGKILL and oom_kills:
        return f"the kernel's out-of-memory killer ended it ({_processes(oom_kills)} of its cgroup killed for memory meanwhile)"
    found = [(match.end(), meaning, match[0]) for pattern, meaning in _KNOWN for match in pattern.finditer(text)]
    if found and number != signal.SIGKILL:
        _, meaning, words = next(f for f in found)
        extra = f"; {_processes(oom_kills)} of its cgroup were killed for memory meanwhile" if oom_kills else ""
        return f"{meaning} ({plain(words)[:200]}){extra}"
    if number == signal.SIGKILL:
        unknown = "the kernel does not say whether for want of memory" if oom_kills is None else "not by the kernel for want of memory"
        return f"somebody killed it; {unknown}"
    if number is not None:
        return next((plain(t) for t in kernel if "segfault" in t or "traps:" in t), "")
    return next((line for line in reversed(lines) if _EXCEPTION.match(line)), "")


def _processes(n: int) -> str:
    return "1 process" if n == 1 else f"{n} processes"


def in_words(code: int | None, number: int | None) -> str:
    """``exit code 1``, ``ended by SIGKILL``, ``its end was not seen``."""
    if number is not None:
        return f"ended by {signal_name(number)}"
    return "its end was not seen by anybody" if code is None else f"exit code {code}"


def signal_name(number: int) -> str:
    """``SIGKILL``; ``signal 77`` for one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def tail(log: Path, span: tuple[int, int] | None) -> str:
    """The end of what it printed, as text."""
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin, end = span if span is not None and span[1] <= size else (0, size)
            file.seek(max(begin, end - TAIL))
            return file.read(end - file.tell()).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def readable(text: str) -> list[str]:
    """Lines as a terminal would leave them: what ``\\r`` overwrote is gone, control characters too; empty ones left out."""
    rows = (row.rstrip("\r").rpartition("\r")[2] for row in text.split("\n"))
    return [line for line in (plain(row) for row in rows) if line]


def plain(text: str) -> str:
    """One line without control characters, of bearable length."""
    return _CONTROL.sub("", text.replace("\t", "    ")).rstrip()[:WIDTH]


# -- the kernel's log ----------------------------------------------------------------------------------------------------


def kernel_log(path: Path = KMSG) -> list[KernelLine]:
    """What the kernel said since boot, as far as it may be read (root, or kernel.dmesg_restrict=0); empty where not."""
    found: list[KernelLine] = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return found
    # Its stamps count from boot and stand still while the host sleeps.
    zero = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    try:
        for _ in range(MOST_KMSG):
            try:
                raw = os.read(fd, 8192)
            except BrokenPipeError:
                continue  # overwritten while it was read: the next call goes on behind it
            except OSError:
                break
            if not raw:
                break
            line = _kernel_line(raw, zero)
            if line is not None:
                found.append(line)
    finally:
        os.close(fd)
    return found


def _kernel_line(raw: bytes, zero: float) -> KernelLine | None:
    head, _, text = raw.partition(b";")
    try:
        return KernelLine(zero + int(head.split(b",")[2]) / 1e6, text.decode("utf-8", "replace").split("\n")[0])
    except (ValueError, IndexError):
        return None


def around(lines: list[KernelLine], ended: float | None) -> list[KernelLine]:
    """Those that may have to do with an end at this time."""
    return [] if ended is None else [k for k in lines if ended - AROUND_S <= k.at <= ended + 10.0]


def _of(text: str, pid: int | None) -> bool:
    if "NVRM: Xid" in text:
        return True
    own = bool(pid) and re.search(rf"(?:Killed process |\[|pid[= :]){pid}\b", text) is not None
    return own and any(word in text for word in ("Killed process", "segfault", "traps:"))
