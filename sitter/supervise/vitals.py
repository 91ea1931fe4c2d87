"""What a process does, from /proc: runs, waits, is stopped; how much CPU and I/O it and its children take. Elsewhere only its state."""

import os
from pathlib import Path

import msgspec
import psutil

from sitter.vitals import Vitals

TICKS = os.sysconf("SC_CLK_TCK")
MOST_CHILDREN = 256
"""Descendants that are looked at: a look must stay well under a millisecond or two."""
MOST_THREADS = 64
"""Threads whose children are looked for (it is nearly always the main one that has them)."""
BUSY_CORES = 0.02
"""A child that takes more than a fiftieth of a core is doing something."""
READ = {"x86_64": 0, "aarch64": 63}
"""Number of the system call ``read``."""

_LETTERS = {psutil.STATUS_RUNNING: "R", psutil.STATUS_DISK_SLEEP: "D", psutil.STATUS_STOPPED: "T", psutil.STATUS_ZOMBIE: "Z"}


class Child(msgspec.Struct, frozen=True):
    """A descendant at one moment. ``cpu`` seconds, ``io`` bytes since it began."""

    state: str
    cpu: float
    io: float


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A process at one moment (``at``: monotonic seconds). Counters since it began; None where the kernel does not say."""

    pid: int
    at: float
    state: str
    cpu: float | None = None
    main_cpu: float | None = None
    io: float | None = None
    waits_in: str = ""
    reads_fd: int | None = None
    switches: int | None = None
    children: dict[int, Child] = {}


def thread_named(pid: int, name: str) -> int:
    """The first thread of that name; 0: none."""
    tasks = (task for task in _listed(Path(f"/proc/{pid}/task")) if _text(task / "comm").strip() == name)
    return next((int(task.name) for task in tasks), 0)


def look(pid: int, at: float, control_tid: int = 0) -> Look:
    """Now; 0.1 to 0.3 ms and no waiting, whatever the process does. Never raises: a process that has gone is in state X."""
    proc = Path("/proc") / str(pid)
    stat = _stat(proc / "stat")
    if stat is None:
        return Look(pid=pid, at=at, state="X" if not psutil.pid_exists(pid) else _elsewhere(pid))
    main = _stat(proc / "task" / str(pid) / "stat")
    return Look(
        pid=pid,
        at=at,
        state=stat[0],
        cpu=(int(stat[11]) + int(stat[12]) + int(stat[13]) + int(stat[14])) / TICKS,
        main_cpu=(int(main[11]) + int(main[12])) / TICKS if main else None,
        io=_io(proc),
        waits_in=_text(proc / "wchan").strip("0\n"),
        reads_fd=_reads(proc),
        switches=_switches(proc / "task" / str(control_tid)) if control_tid else None,
        children={child: found for child in _descendants(pid) if (found := _child(child)) is not None},
    )


def between(a: Look, b: Look) -> Vitals:
    """What happened from one look to a later one at the same process."""
    seconds = max(b.at - a.at, 1e-3)

    def rate(was: float | None, now: float | None) -> float | None:
        return None if was is None or now is None else max(0.0, now - was) / seconds

    cpu, io, busy = rate(a.cpu, b.cpu), rate(a.io, b.io), 0
    for pid, child in b.children.items():
        was = a.children.get(pid, Child(child.state, 0.0, 0.0))
        took = max(0.0, child.cpu - was.cpu) / seconds
        busy += took > BUSY_CORES
        cpu = None if cpu is None else cpu + took
        io = None if io is None else io + max(0.0, child.io - was.io) / seconds
    return Vitals(
        state=b.state,
        seconds=seconds,
        cpu=cpu,
        main_cpu=rate(a.main_cpu, b.main_cpu),
        io=io,
        waits_in=b.waits_in,
        reads_fd=b.reads_fd if a.reads_fd == b.reads_fd else None,
        lock_waits=rate(a.switches, b.switches),
        children=len(b.children),
        busy_children=busy,
        dead_children=sum(c.state == "Z" for c in b.children.values()),
    )


def threads(pid: int) -> str:
    """A line per thread: name, state, and where in the kernel it waits. For the report, where Python's stacks cannot be had as well."""
    lines = []
    for task in sorted((p for p in _listed(Path(f"/proc/{pid}/task")) if p.name.isdigit()), key=lambda p: int(p.name)):
        stat = _stat(task / "stat")
        waits = _text(task / "wchan").strip("0\n") or "-"
        lines.append(f"{task.name:>8} {_text(task / 'comm').strip():16} {stat[0] if stat else '?'} {waits}")
    return "\n".join(lines)


def _stat(path: Path) -> list[str] | None:
    """Fields from the state on: the name before it may hold anything."""
    text = _text(path)
    fields = text.rpartition(")")[2].split()
    return fields if len(fields) > 15 else None


def _child(pid: int) -> Child | None:
    proc = Path("/proc") / str(pid)
    stat = _stat(proc / "stat")
    return None if stat is None else Child(stat[0], (int(stat[11]) + int(stat[12])) / TICKS, _io(proc) or 0.0)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    ask = [pid]
    while ask and len(found) < MOST_CHILDREN:
        tasks = _listed(Path(f"/proc/{ask.pop()}/task"))[:MOST_THREADS]
        for task in tasks:
            children = [int(word) for word in _text(task / "children").split()]
            found += children
            ask += children
    return found[:MOST_CHILDREN]


def _io(proc: Path) -> float | None:
    """Bytes through read and write calls (pipes and files), and those that mapped files brought from the disk."""
    told = dict(line.split(": ", 1) for line in _text(proc / "io").splitlines() if ": " in line)
    try:
        return float(int(told["rchar"]) + int(told["wchar"]) + int(told["read_bytes"]))
    except (KeyError, ValueError):
        return None


def _reads(proc: Path) -> int | None:
    words = _text(proc / "syscall").split()
    try:
        return int(words[1], 16) if int(words[0]) == READ.get(os.uname().machine, -1) else None
    except (IndexError, ValueError):
        return None


def _switches(task: Path) -> int | None:
    for line in _text(task / "status").splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    return None


def _elsewhere(pid: int) -> str:
    try:
        return _LETTERS.get(psutil.Process(pid).status(), "S")
    except psutil.Error:
        return "X"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _listed(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []
