"""A run on which a drill is held: its training and daemon, started as ``sitter run`` does it, and what can be seen of them."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sitter import config
from sitter.client import Client
from sitter.errors import SitterError
from sitter.locks import holder
from sitter.model import Answered, Incident, LogEntry, RuleState, Status
from sitter.store.reader import Reader
from sitter.supervise.daemon_process import start_daemon, stop_daemon
from sitter.supervise.exit import read_exit
from sitter.supervise.launch import launch
from sitter.supervise.pending import parent_pid
from sitter.supervise.process import TrainingProcess
from sitter_wire import drill
from sitter_wire.commands import TakeCheckpoint
from sitter_wire.places import RunDir
from sitter_wire.queries import Act, AnyQuery, GetLogbook, GetRules, GetStatus, Settle, StopNow

LOOK_S = 0.1
ASK_S = 2.0
SAY_S = 10.0
LEAVING_S = 15.0
START_S = 60.0
"""Importing a framework from a cold disk takes half a minute."""
READY_S = 900.0
"""A training of one step in some seconds needs a while until the rules know it."""

Say = Callable[[str], None]
T = TypeVar("T")


class Failed(Exception):  # noqa: N818 — a drill that fails is a result, not an error
    """What must hold does not. The text says what was expected and what was found."""


class NotHeldError(SitterError):
    """The drill could not be held at all, so that it says nothing about the set-up."""


class Scene:
    """``start``, then whatever the fault does; ``close`` in any case."""

    def __init__(self, run: RunDir, command: list[str], say: Say, *, own: bool, start_s: float = START_S, ready_s: float = READY_S) -> None:
        self.run, self.command, self.say, self.own = run, command, say, own
        self._start_s, self._ready_s = start_s, ready_s
        self._client: Client | None = None
        self._told = 0
        self.book: list[LogEntry] = []
        """All of the logbook that was read so far."""
        self._step = ""
        self.may_end = False
        """Whether the training's end is part of the drill just now."""

    # -- begin and end -----------------------------------------------------------------------------------------------------

    def start(self, *, restart: int = 0, told: str = "") -> None:
        """Daemon and training; returns once the agent is there. Raises SitterError."""
        start_daemon(self.run)
        pauses = config.load(self.run.sitter_toml).restart
        launch(
            self.run, self.command, restart=restart, pause_s=pauses.pause, pause_most_s=pauses.pause_most,
            more={drill.VARIABLE: told} if told else None,
        )  # fmt: skip
        deadline = time.monotonic() + self._start_s
        while holder(self.run.agent_lock) is None:
            self._before(lambda: self._not_over("sitter_agent.start() was called"))
            if time.monotonic() > deadline:
                raise NotHeldError(
                    f"no sitter_agent.start() within {self._start_s:.0f} s: a drill needs the agent in the script (see README), or more"
                    f" time with --start-within; what it printed is in {self.run.train_log}"
                )
            time.sleep(LOOK_S)

    def close(self, kill_after_s: float) -> None:
        """End the training and the daemon, whatever has become of them. A restart that is being prepared is called off."""
        process = TrainingProcess.find(self.run)
        if read_exit(self.run) is None and process is not None:
            killing = threading.Timer(kill_after_s, process.terminate_group, (0.0,))
            killing.daemon = True
            killing.start()
            try:
                asked = False
                with contextlib.suppress(SitterError):
                    self.ask(StopNow(), kill_after_s + 10.0)  # through the daemon, so that the run is one that was stopped
                    asked = True
                self._end_by_hand(LEAVING_S if asked else 0.0)
            finally:
                killing.cancel()
        if self._client is not None:
            self._client.close()
            self._client = None
        self.end_daemon()

    def _end_by_hand(self, patience_s: float) -> None:
        """Where no daemon could, or the small parent does not believe it."""
        parent = parent_pid(self.run)
        if parent is None:
            return
        deadline = time.monotonic() + patience_s
        while parent_pid(self.run) is not None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        if parent_pid(self.run) == parent:
            with contextlib.suppress(OSError):
                os.kill(parent, signal.SIGTERM)  # it starts nothing again after that
        process = TrainingProcess.find(self.run)
        if process is not None:
            process.terminate_group(1.0)

    def end_daemon(self) -> None:
        """Returns when it is gone; what it had not committed is in the recorder."""
        deadline = time.monotonic() + LEAVING_S
        pid = holder(self.run.daemon_lock)
        if pid is not None:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)
        stop_daemon(self.run)
        while holder(self.run.daemon_lock) is not None and time.monotonic() < deadline:
            time.sleep(LOOK_S)

    # -- what can be seen --------------------------------------------------------------------------------------------------

    def ask(self, query: AnyQuery, timeout: float = ASK_S) -> Any:
        """Raises SitterError where no daemon answers."""
        if self._client is None:
            self._client = Client(self.run)
        return self._client.ask(query, timeout)

    def do(self, query: AnyQuery, what: str, timeout: float = 45.0) -> str:
        """Something that must be applied; what was said to it. Raises Failed."""
        try:
            answer: Answered = self.ask(query, timeout)
        except SitterError as e:
            raise Failed(f"{what}: {e}") from e
        if answer.status != "applied":
            raise Failed(f"{what}: {answer.status}: {answer.text}")
        return answer.text

    def status(self) -> Status | None:
        """None where nobody answers."""
        try:
            found: Status = self.ask(GetStatus())
        except SitterError:
            return None
        self._step = f"; step {found.step:,}" if found.step is not None else ""
        return found

    def rule(self, name: str) -> RuleState | None:
        """A rule as it stands in this run; None where nobody answers."""
        with contextlib.suppress(SitterError):
            return next((r for r in self.ask(GetRules()) if r.name == name), None)
        return None

    def looks(self, seconds: float, expected: str) -> Iterator[float]:
        """Seconds since the first look, again and again. Raises Failed when time is up, or the training has ended against expectation."""
        began, said = time.monotonic(), 0.0
        while (passed := time.monotonic() - began) < seconds:
            if not self.may_end:
                self._not_over(expected)
            if passed - said >= SAY_S:
                said = passed
                self.say(f"        {passed:.0f} s: waiting for {expected}{self._step}")
            yield passed
            time.sleep(LOOK_S)
        raise Failed(f"{expected} was expected within {seconds:.0f} s, and did not come")

    def until(self, what: Callable[[Status], bool], seconds: float, expected: str) -> Status:
        """The first status of which ``what`` is true. Raises Failed."""
        status: Status | None = None
        try:
            for _ in self.looks(seconds, expected):
                status = self.status()
                if status is not None and what(status):
                    return status
        except Failed as e:
            seen = "nobody answers" if status is None else f"it is {status.state} at step {status.step}"
            raise Failed(f"{e}; {seen}") from e
        raise AssertionError

    def entry(self, what: Callable[[LogEntry], bool], seconds: float, expected: str) -> LogEntry:
        """The first line of the logbook of which ``what`` is true. Raises Failed."""
        for _ in self.looks(seconds, expected):
            self.read()
            for entry in self.book:
                if what(entry):
                    return entry
        raise AssertionError

    def read(self) -> None:
        """What is new in the logbook; also said, where it tells of trouble."""
        with contextlib.suppress(SitterError):
            new: list[LogEntry] = self.ask(GetLogbook(after=self._told), ASK_S)
            for entry in new:
                self._told = max(self._told, entry.id)
                if (entry.kind in ("finding", "outcome", "restart") or entry.status == "crashed") and entry.detail:
                    at = f"step {entry.step:,}: " if entry.step is not None else ""
                    self.say(f"        {at}{entry.detail.splitlines()[0]}")
            self.book += new

    def settled(self, look: Callable[[Reader], T]) -> T:
        """Something of the history, once all that the daemon knows is in it."""
        with contextlib.suppress(SitterError):
            self.ask(Settle(), 10.0)
        reader = Reader(self.run.history)
        try:
            return look(reader)
        finally:
            reader.close()

    def incidents(self) -> list[Incident]:
        """Every one, oldest first."""
        return self.settled(Reader.incidents)

    def gaps(self, since: int) -> list[int]:
        """Steps from ``since`` on that are not in the history exactly once. Every safe point records its ``step_time``."""

        def look(reader: Reader) -> list[int]:
            steps = [p.step for p in reader.last(1_000_000, ["step_time"]) if p.step >= since]
            counts: dict[int, int] = {}
            for step in steps:
                counts[step] = counts.get(step, 0) + 1
            return [step for step in range(since, max(steps, default=since)) if counts.get(step) != 1]

        return self.settled(look)

    # -- the training ------------------------------------------------------------------------------------------------------

    def going(self, steps: int = 30) -> Status:
        """Once it has made so many steps. Raises NotHeldError where it does not come so far."""
        first: list[int] = []

        def there(status: Status) -> bool:
            if status.step is None or status.agent is None:
                return False
            first.append(status.step)
            return status.state == "running" and status.step - first[0] >= steps

        return self._before(lambda: self.until(there, self._ready_s, f"{steps} steps"))

    def ready(self) -> None:
        """Until the agent says that the fault can be planted. Raises NotHeldError."""

        def look() -> dict[str, Any]:
            for passed in self.looks(self._ready_s, "a snapshot that healthy steps have followed"):
                if passed > SAY_S / 2:
                    self.status()
                about = drill.told(self.run.path, drill.READY)
                if about is not None:
                    return about
            raise AssertionError

        about = self._before(look)
        if about.get("trouble"):
            raise NotHeldError(f"this fault cannot be planted here: {about['trouble']}")
        if not about.get("snapshots"):  # too little memory for them: then a checkpoint serves
            self._before(self.checkpoint)

    def go(self, seconds: float) -> dict[str, Any]:
        """Let it be planted; what was. Raises Failed."""
        drill.tell(self.run.path, drill.GO)
        for _ in self.looks(seconds, "the fault itself"):
            about = drill.told(self.run.path, drill.PLANTED)
            if about is not None:
                return about
        raise AssertionError

    def patience(self, steps: int, least: float = 60.0) -> float:
        """Seconds in which so many steps should have been made three times over."""
        status = self.status()
        rate = status.steps_per_s if status is not None else None
        return max(least, 3.0 * steps / rate) if rate else least

    def checkpoint(self, *, good: bool = True) -> int:
        """Take one, wait until it is called good; its step. Raises Failed."""
        status = self.status()
        before = max((c.step for c in status.checkpoints), default=-1) if status is not None else -1
        self.do(Act(action=TakeCheckpoint(why="drill")), "a checkpoint")
        said = "a checkpoint that is called good" if good else "a verified checkpoint"

        def fit(status: Status) -> list[int]:
            return [c.step for c in status.checkpoints if c.step > before and c.verified and (c.good or not good)]

        return max(fit(self.until(lambda s: bool(fit(s)), self.patience(300), said)))

    def _not_over(self, expected: str) -> None:
        ended = read_exit(self.run)
        if ended is not None:
            how = f"signal {ended.signal}" if ended.signal is not None else f"exit code {ended.code}"
            raise Failed(f"the training ended ({how}) before {expected}; what it printed is in {self.run.train_log}")

    def _before(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except Failed as e:
            raise NotHeldError(f"the fault could not be planted: {e}") from e
