"""What clients ask while a new daemon still reads the past, and what can only be answered when it is read: it is kept until then."""

from collections.abc import Callable

from sitter.clock import Clock
from sitter.control.client_link import Answer
from sitter.model import Answered
from sitter_wire.queries import Act, AnyQuery, Approve, Settle

STILL_READING = "the daemon still reads what the recorder holds from before it began; ask again in a moment"
NEED_IT = (Settle, Act, Approve)
"""What needs all that was, or the present."""
PATIENCE_S = 4.0
"""So long they are kept. Whoever asks waits a little longer, and nothing may begin after they have given up."""


class EarlyQueries:
    """Between the clients' link and the ``demands``. ``reading``: whether something is still to be read. On the loop's thread."""

    def __init__(self, demands: Callable[[AnyQuery, Answer], None], reading: Callable[[], bool], clock: Clock) -> None:
        self._demands, self._reading, self._clock = demands, reading, clock
        self._kept: list[tuple[float, AnyQuery, Answer]] = []

    def __call__(self, query: AnyQuery, answer: Answer) -> None:
        """Answer now, or keep ``answer`` and call it once."""
        if isinstance(query, NEED_IT) and self._reading():
            self._kept.append((self._clock.monotonic() + PATIENCE_S, query, answer))
        else:
            self._demands(query, answer)

    def look(self) -> None:
        """Now and then, and when all is read."""
        if not self._kept:
            return
        reading, now = self._reading(), self._clock.monotonic()
        kept, self._kept = self._kept, []
        for until, query, answer in kept:
            if not reading:
                self._demands(query, answer)
            elif now >= until:
                answer(Answered(status="rejected", text=STILL_READING))
            else:
                self._kept.append((until, query, answer))
