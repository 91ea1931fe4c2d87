"""The operator's stop reaches a run whatever it is doing: also where its training has just died, or is about to be started again.

One order goes to one process. Between two processes there is none to send it to, and their parent decides meanwhile by itself; so a stop
stands until it is settled: by the training's answer, by the parent's last word, or by its deadline. It ends in one of three ways: it is
done, it is refused with a reason, or it is as if it had never been asked. What a dead daemon had promised nobody, it leaves no trace of.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec

from sitter.clock import Clock, human
from sitter.control.client_link import Answer
from sitter.control.core import Core
from sitter.control.inbox import Inbox
from sitter.grammar import spelled
from sitter.locks import holder
from sitter.model import Answered, EntryKind
from sitter.supervise.exit import read_exit
from sitter.supervise.pending import CALLED_OFF, call_off, undecided
from sitter.supervise.process import TrainingProcess
from sitter_wire.commands import Outcome, Stop
from sitter_wire.places import RunDir

log = logging.getLogger(__name__)

NOW_HINT = "; `sitter stop --now` ends it without waiting for a safe point"
AGAIN_S = 0.1
"""Between two looks at a parent that has been told; what it does leaves no event behind."""
LAST_WORD_S = 30.0
"""So long the parent's last word is waited for once nothing lives any more."""
MARKED_S = 2.0
"""So long a signal waits until it is on disk that it was ours."""


class Standing(msgspec.Struct, kw_only=True):
    """A stop that is not settled. ``asked``, ``until``: monotonic seconds. ``ordered``: the session that has it now; ``last``: the answer
    for one that had it and died."""

    action: Stop
    until: float
    asked: float
    answer: Answer
    ordered: str | None = None
    last: Outcome | None = None


class Stopping:
    """``ask`` and ``tick`` on the loop's thread, ``tick`` once a second after the core's."""

    def __init__(
        self, run: RunDir, core: Core, clock: Clock, inbox: Inbox, flush: Callable[[float], object] = lambda seconds: None
    ) -> None:
        """``flush``: waits until what was kept is on disk."""
        self._run, self._core, self._clock, self._inbox, self._flush = run, core, clock, inbox, flush
        self._standing: list[Standing] = []

    # -- at the next safe point ------------------------------------------------------------------------------------------

    def ask(self, action: Stop, wait: float, answer: Answer) -> None:
        """Stop at the next safe point of whatever lives within ``wait`` seconds, or let nothing be started any more."""
        now = self._clock.monotonic()
        one = Standing(action=action, until=now + wait, asked=now, answer=answer)
        self._standing.append(one)
        self._core.life.look()
        if self._core.life.alive or self._core.life.undecided:
            self._log("command", one, "sent", "by the operator")
        self._look(one)

    def tick(self) -> None:
        """See what has become of the process, or of the parent, that each of them waits for."""
        for one in list(self._standing):
            if one.ordered is None:
                self._look(one)

    def _look(self, one: Standing) -> None:
        life, now = self._core.life, self._clock.monotonic()
        if life.alive and life.speaks and now < one.until:
            self._order(one, one.until - now)
        elif life.alive or life.undecided:
            if not life.alive:
                call_off(self._run)
            if now >= one.until:
                who = "the training, which has not called start yet," if life.alive else "the training's parent"
                self._say(one, "unanswered", f"{who} has not answered within {human(now - one.asked)}{NOW_HINT}")
        elif _called_off(self._run):
            self._say(one, "applied", CALLED_OFF)
        elif one.last is not None:
            self._settle(one, Answered(status=one.last.status, text=one.last.text, step=one.last.step))
        else:
            self._settle(one, Answered(status="rejected", text=f"nothing to act on: the training does not run ({life.state()})"))

    def _order(self, one: Standing, wait: float) -> None:
        session = self._core.present.session
        assert session is not None
        one.ordered = session.id
        self._core.orders.give(one.action, session=session.id, by="operator", wait=wait, done=partial(self._done, one))

    def _done(self, one: Standing, outcome: Outcome | None) -> None:
        """The order's outcome; that of a process which died with it settles nothing. (The core may be looking just now: no look here.)"""
        session, one.ordered = one.ordered, None
        if outcome is None:
            waited = human(self._clock.monotonic() - one.asked)
            self._say(one, "unanswered", f"not answered within {waited}; it can no longer start{NOW_HINT}")
            return
        present = self._core.present.session
        another = present is not None and present.id != session
        if outcome.status != "applied" and (another or (outcome.status == "expired" and self._clock.monotonic() < one.until)):
            one.last = outcome
            if undecided(self._run):
                call_off(self._run)  # now, and not at the next tick: the pause before the next start may be short
            return
        self._settle(one, Answered(status=outcome.status, text=outcome.text, detail=outcome.detail, step=outcome.step))

    def _say(self, one: Standing, status: Literal["applied", "unanswered"], text: str) -> None:
        """What no process has answered, and so stands in the logbook only by this."""
        self._log("outcome", one, status, text)
        self._settle(one, Answered(status=status, text=text))

    def _settle(self, one: Standing, answered: Answered) -> None:
        self._standing.remove(one)
        one.answer(answered)

    def _log(self, kind: EntryKind, one: Standing, status: str, text: str) -> None:
        present = self._core.present
        self._core.log_entry(kind, step=present.step, branch=present.branch, action=spelled(one.action), status=status, detail=text)

    # -- at once ---------------------------------------------------------------------------------------------------------

    def now(self, answer: Answer) -> None:
        """SIGTERM, 30 s, SIGKILL to the training's group, and to one that was started meanwhile; answered when nothing lives and nothing
        will be started."""
        life = self._core.life
        life.look()
        process = _living(self._run)
        if process is None and not life.undecided:
            answer(Answered(status="rejected", text="no training process lives in this run"))
            return
        if process is not None:
            self._core.stopped_now(process.started)
        try:
            threading.Thread(target=self._end, args=(answer,), name="sitter-stop-now", daemon=True).start()
        except RuntimeError as e:  # this host gives us no other thread
            self._failed(answer, e)

    def _end(self, answer: Answer) -> None:
        try:
            said = self._ended()
        except Exception as e:  # whoever asked waits for a word
            log.exception("stop --now")
            error = e
            self._inbox.post(lambda: self._failed(answer, error))
        else:
            self._inbox.post(lambda: answer(said))

    def _failed(self, answer: Answer, error: Exception) -> None:
        """What is so now, on the loop's thread."""
        why = f"it could not be done ({type(error).__name__}: {error}); see daemon.log"
        process = _living(self._run)
        if process is not None:
            self._core.lives_on()
            lives = f"The training (process {process.pid}) lives: ask again, or `kill {process.pid}`"
            answer(Answered(status="rejected", text=f"{why}. {lives}"))
        else:
            answer(Answered(status="unanswered", text=f"{why}. No training process lives: `sitter status` says how it ended"))

    def _ended(self) -> Answered:
        """Until nothing lives and nothing will be started."""
        began = last = time.monotonic()
        how = ""
        while True:
            process = _living(self._run)
            if process is not None:
                # Before the signal, that it was ours has to be where the parent's question, and the next daemon, find it.
                self._on_loop(partial(self._core.stopped_now, process.started))
                self._flush(MARKED_S)
                how, last = process.terminate_group(), time.monotonic()
                if process.alive():
                    break  # inside a call that cannot be broken off; the answer says so
            elif undecided(self._run) and time.monotonic() - last < LAST_WORD_S:
                call_off(self._run)
                time.sleep(AGAIN_S)
            else:
                break
        took = human(time.monotonic() - began)
        if how:
            return Answered(status="applied", text=f"ended with {how} after {took}; what came after its newest checkpoint is lost")
        if _called_off(self._run):
            return Answered(status="applied", text=CALLED_OFF)
        if undecided(self._run):
            return Answered(status="unanswered", text=f"the training's parent has not answered within {took}; nothing lives yet")
        return Answered(status="rejected", text="no training process lives in this run: it had just ended by itself")

    def _on_loop(self, task: Callable[[], None]) -> None:
        done = threading.Event()
        self._inbox.post(task)
        self._inbox.post(done.set)
        done.wait(MARKED_S)


def _living(run: RunDir) -> TrainingProcess | None:
    process = TrainingProcess.find(run)
    if process is not None and process.alive():
        return process
    pid = holder(run.agent_lock)
    agent = TrainingProcess.of(pid) if pid is not None else None
    return agent if agent is not None and agent.alive() else None  # its lock is held until the last of its threads has ended


def _called_off(run: RunDir) -> bool:
    ended = read_exit(run)
    return ended is not None and ended.called_off
