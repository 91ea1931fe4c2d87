"""Questions to the history, answered off the loop: a thread of its own with a read-only reader of its own."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from sitter.control.client_link import Answer, Refused
from sitter.control.inbox import Inbox
from sitter.control.mishaps import note
from sitter.errors import DamagedError, SitterError
from sitter.model import Answered
from sitter.store.reader import Reader
from sitter_wire import queries

NOT_SETTLED = "the history cannot be written now, so what was logged last is not in it yet; `sitter status` says why"
MOST = 64
"""Questions that may wait. A screen asks three at a time, and answers take milliseconds."""
BUSY = "the daemon has too many questions to the history to answer; ask again in a moment"
SETTLE_S = 4.0
"""A commit takes milliseconds; so long is waited for a disk that is busy."""


def look_up(reader: Reader, query: queries.Query, settle: Callable[[], bool]) -> Any:
    """The history's answer. ``settle`` waits until all is committed, and says whether it is.

    Raises StoreError; TypeError for a query that is not the history's."""
    if isinstance(query, queries.GetCurves):
        return reader.curves(query)
    if isinstance(query, queries.GetLogbook):
        return reader.logbook(query.after, query.limit)
    if isinstance(query, queries.GetDays):
        return reader.days(query.utc_offset)
    if isinstance(query, queries.GetSince):
        return reader.since(query.since)
    if isinstance(query, queries.Settle):
        done = settle()
        return Answered(status="applied" if done else "rejected", text="all is committed" if done else NOT_SETTLED)
    raise TypeError(f"not a question to the history: {type(query).__name__}")


class HistoryQueries:
    """One question at a time; the answer comes back through the inbox, so that ``answer`` runs on the loop's thread."""

    def __init__(self, open_reader: Callable[[], Reader], inbox: Inbox, settle: Callable[[], bool]) -> None:
        self._open, self._inbox, self._settle = open_reader, inbox, settle
        self._questions: queue.Queue[tuple[queries.Query, Answer] | None] = queue.Queue(MOST)
        self._closing = False
        self.damaged = False
        """Whether an answer has failed in a way that no asking again will mend."""
        self._thread = threading.Thread(target=self._work, name="sitter-history", daemon=True)
        self._thread.start()

    def ask(self, query: queries.Query, answer: Answer) -> None:
        """Never blocks. Refused at once while too many wait: each would be answered after its asker has gone."""
        try:
            self._questions.put_nowait((query, answer))
        except queue.Full:
            answer(Refused(BUSY))

    def check(self) -> None:
        """Look at the history, though nobody asks: what the writer wrote it need not read again, and would not notice."""
        self.ask(queries.GetLogbook(limit=1), lambda _: None)

    def close(self, timeout: float = 2.0) -> None:
        """Waits for the question in hand, at most ``timeout`` seconds."""
        self._closing = True
        try:
            self._questions.put_nowait(None)
        except queue.Full:
            pass  # it looks after each question
        self._thread.join(timeout)

    def _work(self) -> None:
        reader: Reader | None = None
        while not self._closing and (asked := self._questions.get()) is not None:
            query, answer = asked
            found: Any
            try:
                reader = reader or self._open()
                found = look_up(reader, query, self._settle)
            except SitterError as e:
                self.damaged = self.damaged or isinstance(e, DamagedError)
                found = Refused(str(e))
            except Exception as e:  # noqa: BLE001 — a bug of ours must not end the thread
                self._inbox.post(lambda e=e: note(e))  # type: ignore[misc]
                found = Refused(
                    f"the history could not answer ({type(query).__name__}); see daemon.log in the run directory"
                )
            self._inbox.post(lambda answer=answer, found=found: answer(found))  # type: ignore[misc]
        if reader is not None:
            reader.close()
