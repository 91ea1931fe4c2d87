"""Looks at the training process while nothing comes from it, and takes the stacks of all its threads when a rule wants to know."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from sitter.clock import Clock
from sitter.control.life import Life
from sitter.control.orders import Orders
from sitter.control.present import Present
from sitter.control.stack_reports import StackReports, Stacks
from sitter.rules.view import RunView
from sitter.supervise import stack_text, vitals, witness
from sitter.vitals import Stood
from sitter_wire.commands import DumpStacks
from sitter_wire.messages import Pong
from sitter_wire.phases import CONTROL
from sitter_wire.places import RunDir

log = logging.getLogger(__name__)

QUIET_S = 5.0
"""Without a safe point for so long, the process is looked at. Steps shorter than that cost nothing here."""
SILENT_S = 2.5
LOOK_S = 2.0
"""A look is 0.2 ms."""
WINDOW_S = 10.0
"""Over which CPU and I/O are told: a tick of the kernel's clock in it is 0.1 % of a core."""
ANSWER_S = 5.0
"""The control thread answers in a millisecond; after so long it is looked from outside."""
MOST_LOGGED = 20_000
"""Characters of a dump in the logbook; the report has all."""


class Stillness:
    """On the loop's thread, but for looks from outside, which may take seconds, and reports, which a disk may keep for hours: those have
    threads of their own."""

    def __init__(
        self, run: RunDir, clock: Clock, present: Present, life: Life, orders: Orders, view: RunView, *,
        post: Callable[[Callable[[], None]], None], log_entry: Callable[..., None],
    ) -> None:  # fmt: skip
        """``post`` brings a task from any thread to the loop's."""
        self._run, self._clock, self._present, self._life = run, clock, present, life
        self._orders, self._view, self._post, self._log = orders, view, post, log_entry
        self._looks: deque[vitals.Look] = deque()
        self._session = ""
        self._seen_at, self._tid = 0.0, 0
        self._asked_at: float | None = None
        self._asked = ""
        self._outside = self._reporting = False
        self._reports = StackReports(run, clock, post)

    # -- the process -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Once a second, before the rules: keeps ``view.vitals``, ``view.phase`` and ``view.stood`` true."""
        self._reports.tick()
        view, now, pid = self._view, self._clock.monotonic(), self._life.pid
        session = self._present.session.id if self._present.session else ""
        if session != self._session:
            self._session, self._asked_at, self._asked = session, None, ""
            view.stood = None
            self._seen_at, self._tid = now, 0
        pong = self._pong()
        view.phase = pong.phase if pong is not None else ""
        if pid is None or view.paused or not self._is_quiet(now):
            self._looks.clear()
            view.vitals = None
            return
        if self._looks and self._looks[-1].pid != pid:
            self._looks.clear()
        if not self._looks or now - self._looks[-1].at >= LOOK_S:
            self._tid = (pong.control_tid if pong is not None else 0) or self._tid or vitals.thread_named(pid, CONTROL)
            self._looks.append(vitals.look(pid, now, self._tid))
            while len(self._looks) > 2 and now - self._looks[1].at >= WINDOW_S:
                self._looks.popleft()
            view.vitals = vitals.between(self._looks[0], self._looks[-1]) if len(self._looks) > 1 else None

        if pong is None and self._tid:
            view.agent_age = now - self._seen_at  # its control thread is there, and has never answered this daemon

    def _pong(self) -> Pong | None:
        """The control thread's last word, where it is of this session."""
        pong = self._present.pong
        return pong if pong is not None and pong.session == self._session else None

    def _signal(self) -> int:
        """By which the stacks can be had: as it said last, or at its start."""
        pong, session = self._pong(), self._present.session
        start = session.start.stacks_signal if session is not None and session.start is not None else 0
        if pong is None or (pong.stacks_signal != start and start):
            return start if pong is None or pong.stacks_signal else 0  # another signal than that would mean something to the training
        return pong.stacks_signal

    def _is_quiet(self, now: float) -> bool:
        view = self._view
        age = view.safe_point_age
        if age is None:
            age = now - view.started if view.started is not None else 0.0
        return age > QUIET_S or (view.agent_age is not None and view.agent_age > SILENT_S)

    # -- the stacks --------------------------------------------------------------------------------------------------------

    def take(self) -> None:
        """The stacks are wanted: by the control thread where it answers, else from outside. Called every second until they are there."""
        now, session = self._clock.monotonic(), self._present.session
        if self._outside or self._reporting:
            return
        silent = self._view.agent_age
        if session is not None and self._asked_at is None and silent is not None and silent < SILENT_S:
            self._asked_at = now
            self._asked = self._orders.give(DumpStacks(), session=session.id, by="rule:stalled", wait=ANSWER_S).id
        elif self._asked_at is None or now - self._asked_at > ANSWER_S:
            self._asked_at = now
            self._from_outside()

    def heard(self, text: str, told: Callable[[Stood], None]) -> None:
        """The control thread's answer, to a rule or to the operator; ``told`` is called with what it says once it is written down."""
        self._report(text, "its control thread", "", told)

    def _from_outside(self) -> None:
        pid, session = self._life.pid, self._session
        if pid is None:
            return
        number, tid = self._signal(), self._tid
        state = self._looks[-1].state if self._looks else ""
        file = self._run.reports / f"stacks-{session}.txt"
        self._outside = True

        def work() -> None:
            text, how = "", ""
            try:
                text, how = witness.by_signal(pid, tid, number, file) if state not in ("T", "t") else "", "faulthandler, asked by a signal"
                if not stack_text.parse(text):
                    text, how = witness.by_py_spy(pid), "py-spy"
                if not stack_text.parse(text):
                    text, how = "", "the kernel alone (Python's stacks could not be had: install py-spy to see them from outside)"
                kernel = vitals.threads(pid)
            except Exception:  # a look must not end the looker
                log.exception("the stacks could not be taken from outside")
                kernel = ""
            self._post(lambda: self._came(session, text, how, kernel))

        try:
            threading.Thread(target=work, name="sitter-witness", daemon=True).start()
        except RuntimeError:
            self._outside = False  # no other thread is to be had now; it is tried again in some seconds
            raise

    def _came(self, session: str, text: str, how: str, kernel: str) -> None:
        self._outside = False
        if session == self._session:
            self._report(text, how, kernel, lambda stood: None)

    def _report(self, text: str, how: str, kernel: str, told: Callable[[Stood], None]) -> None:
        """Have the report written and the line found; then tell the logbook and the rules."""
        present = self._present
        stacks = Stacks(
            at=self._clock.monotonic(), session=self._session, step=present.step or 0, how=how, text=text, kernel=kernel,
            began=present.session.clock[0] if present.session and present.session.clock else None,
        )  # fmt: skip

        def stood(stood: Stood) -> None:
            self._reporting = False
            self._stood(stood, stacks)
            told(stood)

        self._reporting = True
        self._reports.take(stacks, stood)

    def _stood(self, stood: Stood, stacks: Stacks) -> None:
        if stood.session == self._session:
            self._view.stood, self._asked_at = stood, None
        told = f"the training stands at {stood.where}" if stood.where else f"where the training stands is not known: {stood.how}"
        told += f"; the stacks of {stood.threads} threads, by {stood.how}" if stood.threads else ""
        told += f", are in {stood.path}" if stood.path and stood.threads else ""
        detail = f"{told}\n{stacks.text[:MOST_LOGGED]}".strip()
        self._log("note", step=stood.step, branch=self._present.branch, status="stacks", detail=detail)
