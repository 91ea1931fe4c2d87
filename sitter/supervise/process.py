"""The training process seen from outside: is it there, what does it do, and how to end it."""

import json
import os
import signal
import time
from collections.abc import Set
from pathlib import Path
from typing import Literal

import psutil

from sitter.supervise.group import last_agent
from sitter.supervise.identity import boot_id, start_ticks
from sitter.supervise.parent import TRAIN_PID
from sitter_wire.places import RunDir, small_file

ProcessState = Literal["running", "sleeping", "uninterruptible", "stopped", "zombie", "gone"]
"""``uninterruptible``: inside a driver or disk call that cannot be broken off, not even by SIGKILL."""

INIT = 1
"""No pid up to this is ever a training's: to the kernel 0 and -1 mean many processes, and 1 is everybody's parent."""
LEFTOVERS_S = 5.0
"""How long the training's workers may outlive it before they are killed."""
KILLED_S = 10.0
LOOK_S = 0.05

_STATES: dict[str, ProcessState] = {
    psutil.STATUS_RUNNING: "running", psutil.STATUS_DISK_SLEEP: "uninterruptible", psutil.STATUS_STOPPED: "stopped",
    psutil.STATUS_TRACING_STOP: "stopped", psutil.STATUS_ZOMBIE: "zombie", psutil.STATUS_DEAD: "gone",
}  # fmt: skip


class TrainingProcess:
    """One process, told from any later one with the same pid by its start time."""

    def __init__(
        self, pid: int, process: psutil.Process | None, started: float | None = None, run: RunDir | None = None
    ) -> None:
        self.pid = pid
        self.started = started
        """Unix seconds, as its parent wrote them into train.pid and exit.json; None where it had no parent."""
        self._process, self._run = process, run

    @classmethod
    def find(cls, run: RunDir) -> "TrainingProcess | None":
        """The one that the run's parent started last, alive or not; None where there was no parent. That of the run from which this one is
        a copy is not alive here."""
        try:
            told = json.loads(small_file(run.path / TRAIN_PID))
            pid, started = int(told["pid"]), float(told["started"])
            ticks, boot = told.get("ticks"), told.get("boot")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
        if not INIT < pid < 1 << 31:
            return None
        found = cls.of(pid)
        if ticks is not None:
            same = ticks == start_ticks(pid) and boot == boot_id()
        else:
            same = found._process is not None and abs(found._process.create_time() - started) < 5.0
        if same and _is_copy(run, told):
            same = False
        return cls(pid, found._process if same else None, started, run)

    @classmethod
    def of(cls, pid: int) -> "TrainingProcess":
        """Whatever has this pid now."""
        if pid <= INIT:
            return cls(pid, None)
        try:
            return cls(pid, psutil.Process(pid))
        except psutil.Error:
            return cls(pid, None)

    def alive(self) -> bool:
        """Whether it still does anything; a zombie does not."""
        return self.state() not in ("zombie", "gone")

    def state(self) -> ProcessState:
        """What it does at this moment."""
        if self._process is None:
            return "gone"
        try:
            return _STATES.get(self._process.status(), "sleeping") if self._process.is_running() else "gone"
        except psutil.Error:
            return "gone"

    def terminate_group(self, grace_s: float = 30.0) -> str:
        """SIGTERM to it and all that belongs to it, ``grace_s`` seconds, SIGKILL. Blocks so long; returns what ended it.

        All that belongs to it is its process group where it leads one, else its descendants: a training that was not started by us may
        share its group with a shell script or a batch job, which is not ours to end.
        """
        if not self.alive():
            return "nothing to do, since it had already ended"
        members = self._members()
        self._send(signal.SIGTERM, members)
        self._send(signal.SIGCONT, members)  # a stopped process would sit on the SIGTERM
        by_term = self._wait([self._process, *self._agent(members)], grace_s)
        if by_term and self._wait(members, LEFTOVERS_S):
            return "SIGTERM"
        members |= self._members(members)
        self._send(signal.SIGKILL, members)
        if self._wait(members, KILLED_S):
            return "SIGTERM" if by_term else "SIGKILL"
        return "SIGKILL, which it has not obeyed yet since it is inside a driver or disk call"

    def _members(self, known: "Set[psutil.Process]" = frozenset()) -> "set[psutil.Process]":
        """``known``: its members by an earlier look; as long as one of them lives, the group's number is still the same group's."""
        if self._process is None:
            return set()
        found = {self._process}
        if any(_lives_in(process, self.pid) for process in (self._process, *known)):
            found.update(process for process in psutil.process_iter() if _group(process.pid) == self.pid)
        found.discard(psutil.Process())
        if _group(self.pid) != self.pid:
            try:
                found.update(self._process.children(recursive=True))
            except psutil.Error:
                pass  # it ended in between
        return found

    def _agent(self, members: "set[psutil.Process]") -> "list[psutil.Process]":
        """The one of them that trains, where a shell script was started: it has as long for its last checkpoint."""
        pid = last_agent(self._run.path)[0] if self._run is not None else 0
        return [process for process in members if process.pid == pid]

    def _send(self, number: int, members: "set[psutil.Process]") -> None:
        for process in members:
            try:
                process.send_signal(number)  # looks at the start time first
            except psutil.Error:
                continue

    def _wait(self, processes: "set[psutil.Process] | list[psutil.Process | None]", seconds: float) -> bool:
        """Whether all have ended within so long. They are not our children, so there is nothing to wait on but looking."""
        deadline = time.monotonic() + seconds
        while any(p is not None and _lives(p) for p in processes):
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S)
        return True


def _is_copy(run: RunDir, told: dict[str, object]) -> bool:
    """Whether the pid file came here with a copy: it names another directory, which says the same."""
    home = told.get("run")
    if not isinstance(home, str) or not home:
        return False
    try:
        return not run.path.samefile(home) and small_file(Path(home) / TRAIN_PID) == small_file(run.path / TRAIN_PID)
    except (OSError, ValueError):
        return False


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _lives_in(process: psutil.Process, group: int) -> bool:
    """Whether it is of this group, also as a zombie; and not another process that has its pid by now."""
    try:
        return _group(process.pid) == group and bool(process.is_running())
    except psutil.Error:
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
