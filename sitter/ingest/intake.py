"""Shipments in, each record once and in order. What PUSH accepted may have died with an earlier daemon, so nothing is believed
but the sequence numbers: only what is contiguous is taken, what is there already is ignored, and on a hole nothing is taken."""

from collections.abc import Callable, Iterable

from sitter_wire.codec import GarbageError
from sitter_wire.events import DamagedRecord
from sitter_wire.messages import ShipmentHeader
from sitter_wire.records import Happening, Record, decode_stream


class Intake:
    """The next sequence number wanted of each session, and the schemas met so far."""

    def __init__(self, stored: dict[str, int], on_gap: Callable[[str, int, int], None] = lambda session, first, last: None) -> None:
        """``stored``: last sequence number in the history, by session. ``on_gap(session, first, last)`` is called with the numbers of
        records that will never come, before those that follow are given out."""
        self._on_gap = on_gap
        self._next = {session: last + 1 for session, last in stored.items()}
        self._schemas: dict[str, dict[int, tuple[str, ...]]] = {}
        self.holes: set[str] = set()
        self.garbage = 0

    def wanted(self, session: str) -> int:
        """The next sequence number that would be taken; 1 for a session never seen."""
        return self._next.get(session, 1)

    def take(self, header: ShipmentHeader, raw: bytes) -> list[Record]:
        """The new records of a shipment, in order; empty where all is known or a hole precedes it (then ``holes`` has the session).

        Raises GarbageError where header and records do not fit; then nothing was taken.
        """
        session, wanted = header.session, self.wanted(header.session)
        if header.count <= 0 or header.count > len(raw) // 8 or header.first < 1 or not session:
            self.garbage += 1
            raise GarbageError("shipment", f"{header.count} records from {header.first} in {len(raw)} bytes")
        lost_from = header.lost_from
        if header.first > wanted and not (lost_from is not None and lost_from <= wanted):
            self.holes.add(session)
            return []
        if header.first + header.count <= wanted:
            return []
        schemas = dict(self._schemas.get(session, {}))
        schemas.update((number, tuple(names)) for number, names in header.schemas.items())
        try:
            records = decode_stream(raw, schemas, header.first, header.count)
        except GarbageError:
            self.garbage += 1
            raise
        self._schemas[session] = schemas
        self.holes.discard(session)
        if header.first > wanted:
            self._on_gap(session, wanted, header.first - 1)
        self._next[session] = header.first + header.count
        return records[max(0, wanted - header.first) :]

    def begins(self, session: str, first: int) -> None:
        """There are no records below ``first`` any more: what was not taken of them is gone."""
        wanted = self.wanted(session)
        if first > wanted:
            self._on_gap(session, wanted, first - 1)
            self._next[session] = first

    def take_read(self, session: str, records: Iterable[Record], *, live: bool = False) -> list[Record]:
        """What of a session's own files is new, sorted by sequence. With the process gone a missing number is a hole for good, and passed;
        of a ``live`` one only what is contiguous and undamaged is taken, since a record may be half written at this moment."""
        wanted = self.wanted(session)
        new = sorted((r for r in records if r.seq >= wanted), key=lambda r: r.seq)
        if live:
            damaged = next((r.seq for r in new if isinstance(r, Happening) and isinstance(r.event, DamagedRecord)), None)
            new = [r for i, r in enumerate(new) if r.seq == wanted + i and (damaged is None or r.seq < damaged)]
        if new:
            self._next[session] = new[-1].seq + 1
        return new
