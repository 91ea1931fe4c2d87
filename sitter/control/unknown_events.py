"""Events that this version does not understand, from an agent that is newer than this daemon: passed by, and not without a word.

Everything around them is taken as ever, their sequence numbers are acknowledged like all others, and the history keeps them as they came:
a daemon that knows them finds them there. Of more kinds than any version will ever have it keeps none, and that is said too.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from sitter.store.happenings import MOST_UNKNOWN
from sitter_wire.events import UnknownEvent
from sitter_wire.records import Happening

TOLD_PASSED = "told_passed"
"""Kept in the history: the kinds that the logbook has been told of."""
OTHERS = "others"
"""All kinds beyond those that are kept."""


class UnknownEvents:
    """The logbook hears of each kind once; the status says how many there were since this daemon began."""

    def __init__(self, told: Iterable[str] | None, *, log_entry: Callable[..., None], keep: Callable[[str, object], None]) -> None:
        self._told = list(told or ())
        self._log, self._keep = log_entry, keep
        self._counts: Counter[str] = Counter()

    def passed_by(self, h: Happening, event: UnknownEvent) -> None:
        """One more."""
        kept = event.kind in self._told or len(self._told) < MOST_UNKNOWN
        kind = event.kind if kept else OTHERS
        self._counts[kind] += 1
        if kind in self._told:
            return
        self._told.append(kind)
        self._keep(TOLD_PASSED, self._told)
        text = f"an event ({event.kind!r}) was passed by, since this version does not understand it ({event.why}); it is "
        text += "kept for one that does" if kept else f"not kept, since there were {MOST_UNKNOWN} kinds already; so it is with all others"
        self._log("note", step=h.step, branch=h.branch, status="warning", detail=text)

    def sentence(self) -> str:
        """For the status; empty where there were none."""
        if not self._counts:
            return ""
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in self._counts.most_common())
        return f"the training's agent is newer than this daemon: {kinds} of its events were passed by; upgrade sitter and end the daemon"
