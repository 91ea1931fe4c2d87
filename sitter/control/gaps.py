"""Records that were gone before anybody could take them in: counted by what is missing, which is exact. The agent's own gap events are
records as well, and go with the rest when the recorder is at its cap for long."""

from collections.abc import Callable
from typing import Any

KEPT = "gaps"


class Gaps:
    """``told`` is what an earlier daemon kept: session → [records gone in all, the first of the last gap, how many were gone there]."""

    def __init__(self, told: Any, log_entry: Callable[..., None], keep: Callable[[str, object], None]) -> None:
        self._gone: dict[str, list[int]] = dict(told) if isinstance(told, dict) else {}
        self._log, self._keep = log_entry, keep

    @property
    def total(self) -> int:
        """Over all sessions of the run."""
        return sum(gone for gone, *_ in self._gone.values())

    def found(self, session: str, first: int, last: int) -> None:
        """Records ``first``…``last`` will never come. Said once, also where a daemon dies between saying it and storing what follows."""
        count = last - first + 1
        total, last_first, last_count = self._gone.get(session, [0, 0, 0])
        if first == last_first:
            total -= last_count
        self._gone[session] = [total + count, first, count]
        self._keep(KEPT, self._gone)
        if [first, count] != [last_first, last_count]:
            text = f"{count:,} records are gone: the recorder does not hold them any more (at its cap the oldest are dropped)"
            self._log("note", status="gap", detail=text)
