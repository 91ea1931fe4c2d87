"""Why nothing comes from a training: one pure function over what pings, safe points, the kernel, the GPU and the stacks say."""

import re
from typing import Literal

import msgspec

from sitter.vitals import Vitals
from sitter_wire.phases import LOADING

Cause = Literal["gone", "stopped", "hung", "waiting for input", "not stepping", "slow"]
"""gone: no process. stopped: by a signal, a debugger or its cgroup. hung: the control thread does not answer, since something keeps the
interpreter's lock or the kernel. waiting for input: the loader brings nothing, or nobody types. not stepping: it answers, and does nothing.
slow: it is busy."""

SILENT_S = 3.0
"""Asked once a second, the control thread has missed two pings."""
LOCK_WAITS = 50.0
"""A thread that waits for the interpreter's lock wakes every 5 ms to ask for it (``sys.getswitchinterval``): 200 times a second."""

STARVED_LOCK_WAITS = 5.0
"""Where others want the cores too it gets to ask less often. Beside a main thread that computes so few are enough: a control thread that
has said nothing for seconds has no other reason to wake."""

BUSY_CORES = 0.05
"""Of the process with its children: what monitors and progress bars take lies below."""
BUSY_MAIN_CORES = 0.01
"""Of its main thread, which has nothing to do while it waits."""
BUSY_IO = 65536.0
"""Bytes a second; what wakes threads and keeps logs lies far below, any file or data set above."""
BUSY_GPU = 5.0
"""Percent."""

_LOADERS = re.compile(r"(utils/data/dataloader|torchdata/.*|webdataset/.*)\.py:(__next__|_?next_data|_?get_data|_try_get_data)$")
_TYPED = re.compile(r"\binput\(|\bstdin\b")


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What is known. Seconds; ``silent`` since the control thread's last word, ``gpu`` in percent, None: not known. ``innermost`` and
    ``where``: of the stacks, where they have been taken."""

    silent: float | None = None
    phase: str = ""
    vitals: Vitals | None = None
    gpu: float | None = None
    innermost: list[str] = []
    where: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """``evidence``: half a sentence for people."""

    cause: Cause
    evidence: str


def is_busy(signs: Signs) -> bool | None:
    """Whether anything is done: CPU, I/O, GPU. None: not known."""
    v = signs.vitals
    known: list[tuple[float | None, float]] = [(signs.gpu, BUSY_GPU)]
    if v is not None:
        known += [(v.cpu, BUSY_CORES), (v.main_cpu, BUSY_MAIN_CORES), (v.io, BUSY_IO)]
    if any(value is not None and value >= limit for value, limit in known):
        return True
    return None if v is None or v.cpu is None else False


def diagnose(signs: Signs) -> Diagnosis:
    """The cause that fits; the sure ones first."""
    v = signs.vitals
    state = v.state if v else ""
    if state in ("X", "Z"):
        return Diagnosis("gone", "the process is gone")
    if state == "T":
        return Diagnosis("stopped", "the process is stopped by a signal (SIGSTOP, Ctrl-Z)")
    if state == "t":
        return Diagnosis("stopped", "a debugger holds the process")
    if v is not None and ("freezer" in v.waits_in or "refrigerator" in v.waits_in):
        return Diagnosis("stopped", "its cgroup is frozen")
    if signs.silent is not None and signs.silent > SILENT_S:
        return _hung(signs)
    busy = is_busy(signs)
    if not busy and _types(signs):
        return Diagnosis("waiting for input", "it waits for somebody to type something on stdin")
    if busy:
        return Diagnosis("slow", f"it is busy ({figures(signs)})")
    if signs.phase == LOADING or any(_LOADERS.search(place) for place in signs.innermost):
        return Diagnosis("waiting for input", f"the loader brings no batch{_workers(v)}; {figures(signs)}")
    if state == "D" and v is not None:
        return Diagnosis("not stepping", f"it is inside a disk or driver call ({v.waits_in or 'unknown'}); {figures(signs)}")
    return Diagnosis("not stepping", figures(signs) if busy is False else "what it does is not known")


def _hung(signs: Signs) -> Diagnosis:
    v = signs.vitals
    if v is not None and v.state == "D":
        return Diagnosis("hung", f"it is inside a disk or driver call that cannot be broken off ({v.waits_in or 'unknown'})")
    computes = v is not None and (v.main_cpu or 0.0) >= BUSY_CORES
    if v is not None and v.lock_waits is not None and v.lock_waits >= (STARVED_LOCK_WAITS if computes else LOCK_WAITS):
        does = "computes" if computes else "waits"
        return Diagnosis("hung", f"C code that {does} keeps Python's interpreter lock (GIL)")
    return Diagnosis("hung", f"no thread of it answers; {figures(signs)}")


def _types(signs: Signs) -> bool:
    v = signs.vitals
    return bool((v is not None and (v.reads_fd == 0 or v.waits_in == "n_tty_read")) or _TYPED.search(signs.where.partition(", inside")[0]))


def _workers(v: Vitals | None) -> str:
    if v is None or not v.children:
        return ""
    plural = "" if v.children == 1 else "es"
    if v.dead_children:
        return f", and {v.dead_children} of its {v.children} worker process{plural} ended"
    return f", and its {v.children} worker process{plural} " + (
        f"{'stands' if v.children == 1 else 'stand'} still" if not v.busy_children else f"({v.busy_children} busy) may be slow"
    )


def figures(signs: Signs) -> str:
    """``no CPU, no I/O, GPU 0 %``; what is not known is left out."""
    v, told = signs.vitals, []
    if v is not None and v.cpu is not None:
        told.append("no CPU" if v.cpu < BUSY_CORES and (v.main_cpu or 0.0) < BUSY_MAIN_CORES else f"{max(v.cpu, 0.01):.2g} cores")
    if v is not None and v.io is not None:
        told.append("no I/O" if v.io < BUSY_IO else f"I/O {v.io / 1e6:.2g} MB/s")
    if signs.gpu is not None:
        told.append(f"GPU {signs.gpu:.0f} %")
    return ", ".join(told) or "what it does is not known"
