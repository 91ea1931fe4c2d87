"""Threads of ours that take no core from the training's."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import zmq

from sitter_agent.stacks import SIGNAL as STACKS
from sitter_wire.phases import CONTROL


def quiet_context() -> "zmq.Context[zmq.Socket[bytes]]":
    """A context whose thread, woken by a send, does not take the sender's core: a send took 180 µs on two busy cores,
    not 30.

    Linux lets no SCHED_BATCH thread preempt by waking up (sched(7)); it then runs when a core is free, or at the next
    tick.
    """
    context = zmq.Context()
    if hasattr(os, "SCHED_BATCH"):
        context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_BATCH)
    return context


def be_quiet() -> None:
    """For the control thread: as its context's thread; and signals to the process are for the training's threads, since
    a C sleep of ours must not be what they end. The one that asks for the stacks is meant for this thread."""
    with contextlib.suppress(OSError):  # Linux: for `top -H`, and for the daemon
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(CONTROL)
    if hasattr(os, "SCHED_BATCH"):
        try:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # 0: this thread, not the process
        except OSError:
            pass  # not allowed here: a little less quiet
    if hasattr(signal, "pthread_sigmask"):
        synchronous = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}
        signal.pthread_sigmask(signal.SIG_SETMASK, set(signal.valid_signals()) - synchronous - {STACKS})


def be_loud() -> None:
    """For a thread that a quiet one started and that starts a process which lives on: both inherit, and a daemon that no SIGTERM reaches
    and that waits for every other would be a poor one."""
    if hasattr(os, "SCHED_BATCH"):
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            pass  # as quiet as before
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
