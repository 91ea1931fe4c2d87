"""Records whose bytes are damaged: passed by, since sent or read again they would be the same, and not without a word."""

from collections.abc import Callable

from sitter_wire.events import DamagedRecord
from sitter_wire.records import Happening


class DamagedRecords:
    """The logbook hears of the first that this daemon meets; the status says how many there were."""

    def __init__(self, log_entry: Callable[..., None]) -> None:
        self._log = log_entry
        self._count = 0

    def passed_by(self, h: Happening, record: DamagedRecord) -> None:
        """One more. Its sequence number counts as taken."""
        self._count += 1
        if self._count == 1:
            text = f"record {h.seq:,} is damaged ({record.why}) and was passed by; what stands around it is taken (more are counted)"
            self._log("note", status="warning", detail=text)

    def sentence(self) -> str:
        """For the status; empty where there were none."""
        if not self._count:
            return ""
        records = "1 record was" if self._count == 1 else f"{self._count:,} records were"
        return f"{records} damaged and passed by, as the logbook says; look at the memory and the disk of this machine"
