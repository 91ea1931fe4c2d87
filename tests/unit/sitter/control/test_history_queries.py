"""Questions to the history, and who asks too many."""

import threading

from sitter.control.history_queries import BUSY, MOST, HistoryQueries
from sitter.control.inbox import Inbox
from sitter.errors import StoreError
from sitter_wire.queries import GetLogbook


def test_questions_without_end_do_not_pile_up():
    at_work, go_on, refused = threading.Event(), threading.Event(), []

    def open_reader():
        at_work.set()
        go_on.wait(120)
        raise StoreError("there is none")

    inbox = Inbox()
    history = HistoryQueries(open_reader, inbox, lambda: True)
    history.ask(GetLogbook(), lambda _: None)
    assert at_work.wait(60)
    for _ in range(1000):
        history.ask(GetLogbook(), refused.append)
    assert len(refused) == 1000 - MOST
    assert {r.text for r in refused} == {BUSY}
    go_on.set()
    history.close(60)
    inbox.close()
