"""What a client may ask and demand, and what is answered. A new query is one method and one line in ``_HANDLERS``."""

import dataclasses
import difflib
import math
from collections.abc import Callable
from typing import Any

from sitter.clock import Clock, human
from sitter.control.board import Board
from sitter.control.client_link import Answer, Refused
from sitter.control.dispatcher import LONGEST_SNOOZE_S, Dispatcher
from sitter.control.life import Life
from sitter.control.orders import Orders
from sitter.control.present import Present
from sitter.grammar import spelled
from sitter.model import Answered, EndAndRestart, EntryKind, Notification
from sitter_wire import commands, queries

NOT_SAFE = "; the history cannot be written now: should the daemon end before it can, this is forgotten"
STOP_PATIENCE_S = 60.0
"""A stop that is not applied by then says so and offers --now."""


@dataclasses.dataclass(frozen=True)
class Reach:
    """What the demands need from the daemon around them."""

    read: Callable[[queries.Query, Answer], None]
    """Asks the history."""
    when_safe: Callable[[Callable[[bool], None]], None]
    """Calls back once what was kept and logged until now is on disk, or cannot be written."""
    log: Callable[..., None]
    rules: Callable[[], list[Any]]
    stop: Callable[[commands.Stop, float, Answer], None]
    """Also where no process runs at the moment; the seconds are how long its outcome is waited for."""
    stop_now: Callable[[Answer], None]
    test_notify: Callable[[Answer], None]
    rollback_sent: Callable[[], None]
    unanswered: Callable[[commands.AnyAction], None]


class Demands:
    """All on the loop's thread; what takes time is answered later."""

    def __init__(
        self,
        *,
        clock: Clock,
        board: Board,
        dispatcher: Dispatcher,
        orders: Orders,
        present: Present,
        life: Life,
        reach: Reach,
    ) -> None:
        self._clock, self._board, self._dispatcher, self._orders = clock, board, dispatcher, orders
        self._present, self._life, self._reach = present, life, reach

    def __call__(self, query: queries.AnyQuery, answer: Answer) -> None:
        """Answer now, or keep ``answer`` and call it once."""
        handler = self._HANDLERS.get(type(query))
        if handler is None:
            self._reach.read(query, answer)
        else:
            handler(self, query, answer)

    def _promise(self, text: str, answer: Answer) -> None:
        """Answer that it is done, once no kill can undo it: what somebody was told before they left must hold with the next daemon."""
        self._reach.when_safe(lambda safe: answer(Answered(status="applied", text=text if safe else text + NOT_SAFE)))

    def _status(self, query: queries.GetStatus, answer: Answer) -> None:
        self._life.look()  # a second may have passed since the last time, and a whole training can end in it
        answer(self._board.status())

    def _rules(self, query: queries.GetRules, answer: Answer) -> None:
        answer(self._reach.rules())

    def _act(self, query: queries.Act, answer: Answer) -> None:
        action, session = query.action, self._present.session
        wait = min(max(0.1, query.wait), 3600.0)  # NaN becomes 0.1: an order without an end would stand for ever
        if isinstance(action, commands.Stop):
            self._dispatcher.by_hand(action)
            self._reach.stop(action, min(wait, STOP_PATIENCE_S), answer)
            return
        if (why := self._nobody()) or session is None:
            answer(Answered(status="rejected", text=f"nothing to act on: {why}"))
            return

        def done(outcome: commands.Outcome | None) -> None:
            if outcome is not None:
                if outcome.status != "applied":
                    self._dispatcher.arbiter.came_to_nothing(action)
                answer(Answered(status=outcome.status, text=outcome.text, detail=outcome.detail, step=outcome.step))
                return
            self._reach.unanswered(action)
            answer(Answered(status="unanswered", text=f"not answered within {human(wait)}; it can no longer start"))

        if isinstance(action, commands.Rollback):
            self._reach.rollback_sent()
        self._dispatcher.by_hand(action)
        self._orders.give(action, session=session.id, by="operator", wait=wait, done=done)
        self._reach.log(
            "command",
            step=self._present.step,
            branch=self._present.branch,
            action=spelled(action),
            status="sent",
            detail="by the operator",
        )

    def _nobody(self) -> str:
        """Why nothing can be asked of the training; empty where it can."""
        self._life.look()  # it may have died within this second, and what it cannot do any more is not to wait for a deadline
        if not self._life.alive:
            return f"the training does not run ({self._life.state()})"
        if self._present.session is None:
            return "the training has not called start yet"
        return "" if self._life.speaks else "the training was started again, and has not called start yet"

    def _stop_now(self, query: queries.StopNow, answer: Answer) -> None:
        def told(said: Answered) -> None:
            self._log_stop_now("outcome", said.status, said.text)
            answer(said)

        self._log_stop_now("command", "sent", "by the operator")
        self._reach.stop_now(told)

    def _log_stop_now(self, kind: EntryKind, status: str, detail: str) -> None:
        present = self._present
        self._reach.log(kind, step=present.step, branch=present.branch, action="stop --now", status=status, detail=detail)

    def _approve(self, query: queries.Approve, answer: Answer) -> None:
        waits = self._dispatcher.proposals.get(query.id)
        asks_it = waits is not None and any(not isinstance(a, Notification | EndAndRestart) for a in waits.finding.actions)
        if asks_it and (why := self._nobody()):
            answer(Answered(status="rejected", text=f"nothing to act on: {why}; {query.id} stays open"))
            return
        finding = self._dispatcher.approve(query.id)
        self._proposal_answer(query.id, finding is not None, "approved: it is on its way", answer)

    def _veto(self, query: queries.Veto, answer: Answer) -> None:
        finding = self._dispatcher.veto(query.id)
        self._proposal_answer(query.id, finding is not None, "vetoed: nothing is done", answer)

    def _proposal_answer(self, id_: str, found: bool, text: str, answer: Answer) -> None:
        if found:
            self._promise(f"{id_} {text}", answer)
            return
        known = ", ".join(self._dispatcher.proposals) or "none"
        answer(Answered(status="rejected", text=f"{self._dispatcher.became(id_)}; open: {known}"))

    def _snooze(self, query: queries.Snooze, answer: Answer) -> None:
        if query.rule not in self._dispatcher.settings:
            near = difflib.get_close_matches(query.rule, self._dispatcher.settings, 1)
            known = f"did you mean {near[0]}?" if near else f"rules: {', '.join(sorted(self._dispatcher.settings))}"
            answer(Refused(f"no rule {query.rule!r}; {known}", usage=True))
            return
        if not 0 < query.seconds < LONGEST_SNOOZE_S:
            asked = human(query.seconds) if math.isfinite(query.seconds) else f"{query.seconds} s"
            answer(Refused(f"snooze for {asked}: expected between 1 s and a year", usage=True))
            return
        self._dispatcher.snooze(query.rule, query.seconds)
        text = f"{query.rule} proposes nothing for {human(query.seconds)}; its findings are still written down"
        self._reach.log("command", rule=query.rule, action="snooze", status="applied", detail=text)
        self._promise(text, answer)

    def _mode(self, query: queries.SetMode, answer: Answer) -> None:
        before = self._dispatcher.preset
        self._dispatcher.set_preset(query.mode)
        text = f"mode {query.mode} (was {before})"
        self._reach.log("command", action="mode", status="applied", detail=text)
        self._promise(text, answer)

    def _note(self, query: queries.AddNote, answer: Answer) -> None:
        text = query.text.strip()
        if not text:
            answer(Refused("an empty note: expected some text", usage=True))
            return
        self._reach.log(
            "note", step=self._present.step, branch=self._present.branch, status="operator", detail=text[:4000]
        )
        self._promise("noted", answer)

    def _notify(self, query: queries.TestNotify, answer: Answer) -> None:
        self._reach.test_notify(answer)

    _HANDLERS: dict[type[queries.Query], Callable[..., None]] = {  # noqa: RUF012 — a table, never changed
        queries.GetStatus: _status,
        queries.GetRules: _rules,
        queries.Act: _act,
        queries.StopNow: _stop_now,
        queries.Approve: _approve,
        queries.Veto: _veto,
        queries.Snooze: _snooze,
        queries.SetMode: _mode,
        queries.AddNote: _note,
        queries.TestNotify: _notify,
    }
