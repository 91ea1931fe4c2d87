"""Is the training alive, and if not, how did it end? From the agent's lock, its control thread, exit.json and the good-bye."""

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sitter.clock import Clock
from sitter.control.file_question import FileQuestion
from sitter.control.present import Present
from sitter.locks import holder, session_of
from sitter.model import ExitNow, RestartNow, State
from sitter.supervise.exit import read_exit
from sitter.supervise.pending import pending, undecided
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir

HUNG_S = 60.0
"""Silence of a connected control thread, process alive: nothing that holds the GIL for less is called hung."""
SILENT_S = 3.0
"""The same where the rule ``stalled``, which knows the cause, has said so: two missed pings are enough."""
NOTICES = ("SIGTERM", "SIGUSR1")
"""What a parent is told where the machine is going down, rather than by the operator."""
INTERRUPTED = (0, 130)
"""Exit codes of a script that obeyed a stop: in a loop of its own that is a KeyboardInterrupt, by which Python ends with SIGINT."""
EXIT_WAIT_S = 5.0
"""So long after the agent's end exit.json is waited for where a parent is known to write it (other ranks may still be ending)."""


class _Found(NamedTuple):
    """What the run's files say of the process."""

    pid: int | None
    process: TrainingProcess | None
    """As its parent started it; asked only where no agent lives."""
    restart: RestartNow | None = None
    undecided: bool = False
    has_exit: bool = False
    here: bool = True
    """Whether they are this run's: its directory may have been moved, and another may be called so by now."""


def _ask(run: RunDir, supervised: bool, home: int | None) -> _Found:
    found = _read(run, supervised)
    # Asked last: it may be moved at any moment. Some file systems (FUSE) give a directory another number now and then, so where this
    # daemon's own lock lies is this run as well.
    is_ours = home is None or _inode(run) == home or holder(run.daemon_lock) == os.getpid()
    return found if is_ours else found._replace(here=False)


def _inode(run: RunDir) -> int | None:
    try:
        return run.path.stat().st_ino
    except FileNotFoundError:
        return None


def _read(run: RunDir, supervised: bool) -> _Found:
    pid = holder(run.agent_lock)
    if pid is not None:
        return _Found(pid, None)
    # Imports before `start`, or a last evaluation after the loop: the process lives without an agent.
    process = TrainingProcess.find(run)
    if process is not None and process.alive():
        return _Found(process.pid, process)
    return _Found(None, process, pending(run) if supervised else None, supervised and undecided(run), run.exit_json.exists())


class Life:
    """Looks once a second; ``on_gone`` is called when the process is gone, and may be before it is known how it ended (``known``)."""

    def __init__(
        self, run: RunDir, clock: Clock, present: Present, *, supervised: bool, on_gone: Callable[[], None],
        reading: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """``reading``: whether what is recorded of its life is still being read, so that nothing can be told of it yet."""
        self._run, self._clock, self._present = run, clock, present
        self._supervised, self._on_gone, self._reading = supervised, on_gone, reading
        self._files, self._exit_file = FileQuestion[_Found](), FileQuestion[ExitNow | None]()
        self._home, self._process = _inode(run), TrainingProcess(0, None)
        self.moved = False
        """The run directory was, or it was removed."""
        self.pid: int | None = None
        """Of the training process that lives; None: none does."""
        self.since: float | None = None
        """Monotonic seconds at which this process was seen for the first time."""
        self.gone_at: float | None = None
        """Monotonic seconds at which the last one was seen to be gone; None while one lives, and where there never was one."""
        self.exit: ExitNow | None = None
        """As its parent wrote it; None where it has not, or there is no parent."""
        self.restart: RestartNow | None = None
        """Being prepared by the training's parent: it is not over."""
        self.stopped_session: str | None = None
        """The session that was ended with `stop --now`: its signals were ours."""
        self.stopped_process: float | None = None
        """The same of a process, by its start as its parent wrote it; it may not have had a session yet."""
        self.undecided = False
        """Nothing lives, and the training's parent has yet to say how it ended or to start it again."""
        self.ended_by_rule: str | None = None
        """The session that a rule has ended so that it is started again: as a crash, whatever became of its signals."""
        self._new = False
        """The process that lives was started after the newest session, and has none yet: it imports, or loads its data."""
        self._unheard = False
        """The last process died before it had a session, and nobody wrote down how: what the newest session said is of an earlier one."""
        self.stalled = False
        """The rule of that name has said so, and it stands still."""
        self.unanswered: float | None = None
        """Seconds for which a control thread has been there that never answered this daemon."""

    def look(self) -> None:
        """Once a second, and where a second may be too old; what the files said last where they do not answer."""
        found = self._files.ask(partial(_ask, self._run, self._supervised, self._home))
        if found is None:
            return
        self.moved = not found.here
        if self.moved:
            self._look_without_files()
            return
        pid, process = found.pid, found.process
        if pid is not None:
            if pid != self.pid:
                self._process = TrainingProcess.of(pid)
                self.pid, self.since, self.gone_at, self.exit = pid, self._clock.monotonic(), None, None
                self._exit_file = FileQuestion()  # what it said last was of another process
                self.stalled = False
                self._present.pong_at = None  # another process's last word is no silence of this one
            self.restart, self.undecided = None, False
            self._new = process is not None and self._came_after_all_sessions(process.started)
            return
        self.restart, self.undecided = found.restart, found.undecided
        # A script without an agent has no session, and where its parent died with it there is no exit.json: but it was started.
        left_untold = process is not None and not self.undecided
        has_past = self._present.session is not None or left_untold or found.has_exit
        if self.pid is not None or (self.gone_at is None and has_past):
            self.pid, self.gone_at = None, self._clock.monotonic()
            self._on_gone()
        if self.gone_at is not None and self.exit is None and not self._reading():
            session = self._present.session
            self.exit = self._exit_file.ask(partial(read_exit, self._run, session.clock if session is not None else None))
            self._unheard = self.exit is None and process is not None and self._came_after_all_sessions(process.started)

    def _look_without_files(self) -> None:
        """Nothing that is or is not in them tells anything of the training; the process itself does."""
        self.restart, self.undecided = None, False
        if self.pid is not None and not self._process.alive():
            self.pid, self.gone_at = None, self._clock.monotonic()
            self._on_gone()

    def warning(self) -> str:
        """For the status; empty where there is nothing to say."""
        if not self.moved:
            return ""
        undone = "until then no checkpoint, and soon no record, is written"
        return f"the run directory {self._run.path} was moved or removed: put it back; {undone}"

    def _came_after_all_sessions(self, started: float | None) -> bool:
        """Whether a process that was started at these unix seconds never had a session, nor was ended by us."""
        session = self._present.session
        if started is None or started == self.stopped_process or session is None or session.clock is None:
            return False
        return started > session.clock[0]

    @property
    def silent_yet(self) -> bool:
        """A process lives that has not said anything, such as one that imports: what is known of the present is an earlier one's."""
        session = self._present.session
        return self.alive and (session is None or (self._present.pong_at is None and session.pid not in (0, self.pid)))

    @property
    def speaks(self) -> bool:
        """Whether the present session is the living process's: a new one's has yet to speak, and what is there is a dead one's."""
        session = self._present.session
        if session is None or self.pid is None:
            return False
        return session.pid == self.pid or (holder(self._run.agent_lock) is not None and session_of(self._run.agent_lock) == session.id)

    @property
    def alive(self) -> bool:
        """Whether the training process lives, with an agent or (yet, or any more) without."""
        return self.pid is not None

    def known(self) -> bool:
        """Whether the end is known as well as it will be: exit.json is there, or none is to be expected."""
        if self.alive or self.gone_at is None or self.restart is not None or self.undecided or self._reading():
            return False
        waited = self._clock.monotonic() - self.gone_at
        return self.exit is not None or not self._supervised or waited > EXIT_WAIT_S

    def state(self) -> State:
        """The one word."""
        if self._reading():
            return "starting"
        return self._alive_state() if self.alive else self._ended_state()

    def _alive_state(self) -> State:
        if self._present.paused and not self._new:
            return "paused"
        pong_at = self._present.pong_at
        silent = self.unanswered if pong_at is None else self._clock.monotonic() - pong_at
        if silent is not None and silent > (SILENT_S if self.stalled else HUNG_S):
            return "hung"
        if self.stalled:
            return "stalled"
        return "running" if self._present.step and not self._new else "starting"

    def _ended_state(self) -> State:
        if self.gone_at is None or self.restart is not None:
            return "starting"
        if self._unheard:
            return "crashed"
        session = self._present.session
        goodbye = session.goodbye if session else None
        by_us = self.exit is not None and (self.exit.called_off or self.exit.started == (self.stopped_process or -1.0))
        if by_us or (session is not None and session.id == self.stopped_session):
            return "stopped"
        if session is not None and session.id == self.ended_by_rule:
            return "crashed"
        if session is not None and session.preempted and goodbye != "total":
            return "preempted"
        if self.exit is not None:
            if goodbye == "stopped" and (self.exit.code in INTERRUPTED or self.exit.signal == signal.SIGINT):
                return "stopped"
            if self.exit.code == 0:
                return "finished" if goodbye != "crashed" else "crashed"  # a shell script that it was started by says all is well
            return "preempted" if self.exit.told in NOTICES else "crashed"
        endings: dict[str | None, State] = {
            "total": "finished",
            "closed": "finished",
            "stopped": "stopped",
            "left early": "stopped",
        }
        return endings.get(goodbye, "crashed")
