"""How a run ends for the people around it: the logbook, the notifications, ``--then``, and when the daemon may leave."""

import logging
import threading

from sitter.actions.hooks import then
from sitter.actions.notify.notifier import Notifications
from sitter.clock import Clock
from sitter.control.after_checkpoint import AfterCheckpoint
from sitter.control.board import ENDED
from sitter.control.client_link import Answer
from sitter.control.core import Core
from sitter.control.inbox import Inbox
from sitter.control.obituary import Obituary
from sitter.model import Answered, EndAndRestart, ExitNow, Finding, State
from sitter.rules.stalled import Stalled
from sitter.store.reader import Reader
from sitter.supervise.boots import read_boots
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir
from sitter_wire.rundir import RunInfo

log = logging.getLogger(__name__)

LEFT_ALONE = "left_alone"
"""Kept in the history: when the last such decision was made that is in the logbook."""
LINGER_S = 3.0
"""After the end: so long a TUI that is just starting, or a process that starts again, still finds the daemon."""
NOTICES_S = 45.0
"""So long the last notifications are waited for: three attempts of 10 s each, and the pauses between them."""
UNSETTLED_S = 3600.0
"""So long room is waited for where the disk is full at the end."""
TO_RESTART = "stop --now, to start again"
WAIT_FOR_START_S = 60.0
"""A daemon that was started for a training that never comes leaves after so long."""


class Ending:
    """Ticks once a second after the core."""

    def __init__(
        self, run: RunDir, info: RunInfo, core: Core, notifications: Notifications, reader: Reader, clock: Clock
    ) -> None:
        self._run, self._info, self._core, self._notifications, self._clock = run, info, core, notifications, clock
        self._concluded: str | None = reader.get("concluded")
        self._told_left_alone: float | None = reader.get(LEFT_ALONE)
        self._obituary, self._after = Obituary(core, reader, clock), AfterCheckpoint(core, reader, clock)
        self._then: State | None = None
        """``--then`` is due; it waits for what is still done with a checkpoint, since it may switch the machine off."""
        self._began = clock.monotonic()
        self._ended_at: float | None = None
        """Monotonic seconds at which the end was told."""
        self._was: State | None = None
        """The state at the last look."""

    def gone(self) -> None:
        """The training process is gone: read what its recorder still holds; what it never answered expires with that."""
        self._core.begin_reading()

    def tick(self) -> None:
        """Notice changes of state, and conclude once the end is known."""
        core, state = self._core, self._core.life.state()
        if core.reading:
            return  # what came before all this is to be told first
        self._obituary.tick()
        self._after.tick()
        if self._then is not None and not self._after.busy:
            self._run_then(self._then)
        if core.life.alive:
            self._ended_at = None
            if state != self._was and state in ("stalled", "hung") and core.dispatcher.mode_of(Stalled.name) != "act":
                why = core.standing or f"at step {core.present.step}"
                self._notifications.send("stalled", f"{self._run.name}: {state}: {why}", f"{state} {core.present.step}")
            self._was = state
            return
        self._was = state
        self._left_alone()
        if self._ended_at is not None or not core.life.known() or state not in ENDED:
            return
        self._ended_at = self._clock.monotonic()
        session = core.present.session.id if core.present.session else "-"
        if core.life.exit is not None and core.life.exit.started is not None:
            session += f" {core.life.exit.started}"  # a process that died before it had a session ended, too
        if session != self._concluded:
            self._concluded = session
            core.keep("concluded", session)
            self._conclude(state, core.life.exit)

    def _left_alone(self) -> None:
        """``sitter resume --all`` starts it no more; it has no history open, and nobody to tell."""
        boots = read_boots(self._run)
        if boots.left_alone and boots.at != self._told_left_alone:
            self._told_left_alone = boots.at
            self._core.keep(LEFT_ALONE, boots.at)
            text = f"{self._run.name} is left alone: {boots.left_alone}; `sitter resume -r {self._run.name}` starts it all the same"
            present = self._core.present
            self._core.log_entry("restart", step=present.step, branch=present.branch, status="left alone", detail=text)
            self._notifications.send("gave_up", text, f"left alone {boots.at}")

    def _conclude(self, state: State, exit_: ExitNow | None) -> None:
        core, step = self._core, self._core.present.step
        text = self._obituary.last(state, exit_, step)
        for incident in core.incidents.open:
            core.incidents.over(incident.rule, f"open when the run was {state}")
        if state == "finished":
            core.dispatcher.leave(lambda finding: True, "the training has finished")
        event = "finished" if state != "crashed" else "gave_up" if exit_ is not None and exit_.given_up else "crashed"
        self._notifications.send(event, text, f"ended {core.present.session and core.present.session.id}")
        if self._info.then and state in ("finished", "crashed"):
            self._then = state
            if not self._after.busy:
                self._run_then(state)

    def _run_then(self, state: State) -> None:
        self._then = None
        status, detail = "started", self._info.then
        try:
            then(self._info.then, self._run.path, {"SITTER_STATE": state})
        except OSError as e:
            status, detail = "failed", f"{detail}: it could not be started: {e.strerror}"
        self._core.log_entry("command", action="then", status=status, detail=detail)

    def may_leave(self) -> bool:
        """Whether there is nothing left to watch."""
        now, life = self._clock.monotonic(), self._core.life
        if life.alive or life.restart is not None or life.undecided or self._after.busy or self._then is not None:
            return False
        if self._core.reading:
            return False
        if self._ended_at is not None:
            over = now - self._ended_at
            if self._core.unsettled and over < UNSETTLED_S:
                return False  # the logbook's last lines are only here
            return over > LINGER_S and (over > NOTICES_S or not self._notifications.busy())
        if life.gone_at is not None and not life.known():
            return False  # how it ended is written down at this moment, and is to be told
        return now - self._began > WAIT_FOR_START_S

    # -- notifications and signals ---------------------------------------------------------------------------------------

    def notified(self, notifier: str, event: str, ok: bool, detail: str) -> None:
        """A notifier's result, on the loop's thread; failures go into the logbook."""
        if not ok:
            self._core.log_entry("note", status="notify failed", detail=f"{notifier} ({event}): {detail}")

    def alarms(self, alarms: list[str]) -> None:
        """What the driver said."""
        for alarm in alarms:
            self._obituary.alarm(alarm)
            self._core.log_entry(
                "finding",
                rule="gpu",
                status="warning",
                step=self._core.present.step,
                branch=self._core.present.branch,
                detail=alarm,
            )

    def test_notify(self, answer: Answer, inbox: Inbox) -> None:
        """Waits for every notifier in a thread of its own."""

        def work() -> None:
            results = self._notifications.test()
            failed = [r for r in results if not r.ok]
            lines = [f"{r.notifier}: {'ok' if r.ok else r.detail}" for r in results] or [
                "no notifier is set up: add [notify.NAME] to sitter.toml; one that was added since counts when the daemon starts next"
            ]
            reply = Answered(status="applied" if results and not failed else "rejected", text="; ".join(lines))
            inbox.post(lambda: answer(reply))

        threading.Thread(target=work, name="sitter-notify-test", daemon=True).start()

    def end_to_restart(self, action: EndAndRestart, finding: Finding, inbox: Inbox) -> None:
        """As ``stop --now``, but by a rule: the run is not stopped, it has crashed, and whoever starts it again may do so."""
        core, pid = self._core, self._core.life.pid
        process = TrainingProcess.find(self._run) or (TrainingProcess.of(pid) if pid is not None else None)
        if process is None or not process.alive():
            core.log("outcome", finding, "rejected", f"{TO_RESTART}: no training process lives in this run")
            return
        core.ended_by_rule()
        core.log("command", finding, "sent", f"{TO_RESTART}: {action.why}")

        def work() -> None:
            how, error = "", None
            try:
                how = process.terminate_group()
            except Exception as e:  # the logbook, the operator and the rule wait for a word
                log.exception(TO_RESTART)
                error = e
            inbox.post(lambda: self._ended_to_restart(action, finding, process, how, error))

        try:
            threading.Thread(target=work, name="sitter-end", daemon=True).start()
        except RuntimeError as e:  # this host gives us no other thread
            self._ended_to_restart(action, finding, process, "", e)

    def _ended_to_restart(
        self, action: EndAndRestart, finding: Finding, process: TrainingProcess, how: str, error: Exception | None
    ) -> None:
        core, name = self._core, self._run.name
        if error is None:
            core.log("outcome", finding, "applied", f"{TO_RESTART}: ended with {how}")
            core.tell("acted", f"{name}: ended to be started again: {action.why}", f"{finding.key} ended")
            return
        why = f"it could not be done ({type(error).__name__}: {error}); see daemon.log"
        if process.alive():
            core.lives_on()
            core.refused(finding.rule)
            why += f". The training (process {process.pid}) lives"
        core.log("outcome", finding, "rejected" if process.alive() else "unanswered", f"{TO_RESTART}: {why}")
        core.tell("acted", f"{name}: not ended, though it was to be started again ({action.why}): {why}", f"{finding.key} not ended")
