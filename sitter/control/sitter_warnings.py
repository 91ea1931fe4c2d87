"""What the operator should know of sitter itself, in sentences: for the status, as long as each is true."""

from collections import Counter
from collections.abc import Callable

from sitter.control.backlog import Backlog
from sitter.control.gaps import Gaps
from sitter.control.mishaps import mishaps
from sitter.store.writer import Writer


class SitterWarnings:
    """Called, it gives the sentences, the gravest first."""

    def __init__(
        self, writer: Writer, gaps: Gaps, backlog: Backlog, *, reading: Callable[[], bool], standing: Callable[[], str]
    ) -> None:
        """``reading``: what came before the present is still being read; ``standing``: what is said of a training that stands."""
        self._writer, self._gaps, self._backlog = writer, gaps, backlog
        self._reading, self._standing = reading, standing
        self.others: list[Callable[[], str]] = []
        """What others have to say; empty: nothing."""
        self.garbage: list[Counter[str]] = []
        """What the sockets have dropped, by kind."""

    def __call__(self) -> list[str]:
        """Now."""
        out = []
        if self._writer.trouble:
            out.append(self._writer.trouble)
        if self._writer.dropped:
            out.append(f"{self._writer.dropped:,} lines for the history were given up, since it could not be written")
        if self._gaps.total:
            out.append(f"{self._gaps.total:,} records are gone (see the logbook)")
        if dropped := sum(self.garbage, Counter()):
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in dropped.most_common())
            out.append(f"{dropped.total():,} messages that nobody of ours sends were dropped ({kinds})")
        if self._reading():
            out.append("what earlier processes left in the recorder is still being read: what is shown is of then, and nothing is done yet")
        out += [text for say in self.others if (text := say())]
        out += self._backlog.unreadable
        out += mishaps()
        out += [standing] if (standing := self._standing()) else []
        return out
