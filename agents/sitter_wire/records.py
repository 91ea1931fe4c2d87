"""The recorder's binary layout, shared by the writer (agent) and every reader.

A segment file is a 128-byte header, a msgpack map of the schemas known when it began, and records one after another.
All fields are 8 bytes, little-endian. A record is::

    word    schema << 32 | length of the whole record in bytes (a multiple of 8)
    step    int64      optimizer step
    branch  int64
    time    int64      CLOCK_MONOTONIC nanoseconds
    values  float64 × n, one per name of the schema
    seq     int64      LAST: the commit mark, 1 for a session's first record

Schema 0 is an event and schema 1 declares a schema; both carry ``nbytes`` (int64) and a msgpack payload padded to 8 bytes in place
of values. An event with an empty payload is a ``Hole``: it fits where any point was meant to stand. A torn record has seq 0, since
segments are zeroed and never used twice (150 SIGKILLs: 5 torn, all recognised). An event that this version does not understand comes out
as an ``UnknownEvent``, and what is damaged where the next one in sequence stands as a ``DamagedRecord``: whoever reads passes it by, and
what stands around it is not lost.

Segments lie in ``recorder/<session>/`` as ``00000001.rec``, ``00000002.rec``, … (``segment_name``), in the order they were made in. The
last one may be prepared and not begun: then it is all zeros, the header included.
"""

import struct
import sys
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from sitter_wire.codec import GarbageError
from sitter_wire.events import AnyEvent, DamagedRecord, Hole, UnknownEvent

MAGIC = b"SITREC1\n"
LAYOUT = 1
HEADER_BYTES = 128
EVENT, SCHEMA, FIRST_USER_SCHEMA = 0, 1, 2
MAX_RECORD = 1 << 20
"""Bytes; a longer one is garbage."""
MOST_WHY = 200
"""Characters of why something was not understood."""
MOST_KIND = 64
"""Characters of an event's tag; ours have 17."""
SEGMENT_SUFFIX = ".rec"
"""Sorted by name, a session's segments are in order."""

_HEADER = struct.Struct("<8sq32sqqqqq")
_FIXED = struct.Struct("<qqqq")
_BLOB = struct.Struct("<qqqqq")
_SEQ = struct.Struct("<q")
_ORDER = "@" if sys.byteorder == "little" else "<"
"""The processor's own order where it is the file's: the same bytes, copied whole and not one by one."""
OVERHEAD = _FIXED.size + _SEQ.size


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment says of itself. Clocks in nanoseconds, read together; ``data_at`` is the offset of the first record."""

    session: str
    first_seq: int
    wall_ns: int
    mono_ns: int
    size: int
    data_at: int
    schemas: dict[int, list[str]]


class Point(msgspec.Struct, frozen=True, gc=False):
    """Values logged together at one step. ``time`` is monotonic nanoseconds; ``values`` run parallel to ``names``."""

    seq: int
    step: int
    branch: int
    time: int
    names: tuple[str, ...]
    values: tuple[float, ...]


class Happening(msgspec.Struct, frozen=True, gc=False):
    """An event with its place among the values."""

    seq: int
    step: int
    branch: int
    time: int
    event: AnyEvent | UnknownEvent | DamagedRecord


Record = Point | Happening

class _DamagedError(GarbageError):
    """A record with its length and its commit mark and nonsense in between; or, should ``seq`` not be the one that is expected there,
    nonsense that looks so."""

    def __init__(self, why: str, seq: int, length: int) -> None:
        super().__init__("record", why)
        self.why, self.seq, self.length = why, seq, length

    def record(self) -> Happening:
        """In its place."""
        return Happening(self.seq, 0, 0, 0, DamagedRecord(why=self.why))


_events: msgspec.msgpack.Decoder[AnyEvent] = msgspec.msgpack.Decoder(AnyEvent)
_schema_payload: msgspec.msgpack.Decoder[tuple[int, list[str]]] = msgspec.msgpack.Decoder(tuple[int, list[str]])
_schemas_payload: msgspec.msgpack.Decoder[dict[int, list[str]]] = msgspec.msgpack.Decoder(dict[int, list[str]])


@lru_cache(maxsize=1024)
def point_struct(n: int) -> struct.Struct:
    """The whole record of a schema with ``n`` names: word, step, branch, time, n values, seq."""
    return struct.Struct(f"{_ORDER}4q{n}dq")


def point_word(schema: int, n: int) -> int:
    """The first word of such a record."""
    return schema << 32 | (OVERHEAD + 8 * n)


DROPPED = "dropped"
"""File beside a session's segments: of each that was deleted there to keep the cap its last sequence number, in decimal digits, a line
each, in any order. The session was over, so that no record of its own can tell."""


def segment_name(index: int) -> str:
    """File name of a session's ``index``-th segment, counted from 1."""
    return f"{index:08d}{SEGMENT_SUFFIX}"


def pack_hole(into: memoryview, at: int, length: int, step: int, branch: int, time: int, seq: int) -> None:
    """Fill a reserved slot of ``length`` bytes (48 at least) that was left empty; the sequence number goes in last."""
    _BLOB.pack_into(into, at, EVENT << 32 | length, step, branch, time, 0)
    _SEQ.pack_into(into, at + length - _SEQ.size, seq)


def blob_bytes(payload: bytes) -> int:
    """Length of an event or schema record that carries ``payload``."""
    return _BLOB.size + (len(payload) + 7 & ~7) + _SEQ.size


def pack_blob(
    into: memoryview, at: int, schema: int, step: int, branch: int, time: int, payload: bytes, seq: int
) -> None:
    """Write an event (schema 0) or schema declaration (1) at ``at``; the sequence number goes in last."""
    n = blob_bytes(payload)
    _BLOB.pack_into(into, at, schema << 32 | n, step, branch, time, len(payload))
    start = at + _BLOB.size
    into[start : start + len(payload)] = payload
    _SEQ.pack_into(into, at + n - _SEQ.size, seq)


def pack_segment_header(into: memoryview, header: SegmentHeader) -> int:
    """Write the header and its schemas; returns the offset of the first record (``header.data_at`` is ignored)."""
    blob = msgspec.msgpack.encode(header.schemas)
    data_at = HEADER_BYTES + (len(blob) + 7 & ~7)
    into[HEADER_BYTES : HEADER_BYTES + len(blob)] = blob
    _HEADER.pack_into(
        into,
        0,
        MAGIC,
        LAYOUT,
        header.session.encode()[:32],
        header.first_seq,
        header.wall_ns,
        header.mono_ns,
        header.size,
        len(blob),
    )
    return data_at


def read_segment_header(data: bytes | memoryview) -> SegmentHeader:
    """Raises GarbageError (kind ``segment`` or ``layout``) where this is no segment or one from a newer layout."""
    if len(data) < HEADER_BYTES:
        raise GarbageError("segment", f"{len(data)} bytes are too few for a header")
    magic, layout, session, first, wall, mono, size, nblob = _HEADER.unpack_from(data, 0)
    if magic != MAGIC:
        raise GarbageError("segment", "does not begin with the recorder's magic")
    if layout != LAYOUT:
        raise GarbageError("layout", f"segment layout {layout}, this version reads {LAYOUT}: upgrade sitter")
    if not 0 <= nblob <= len(data) - HEADER_BYTES:
        raise GarbageError("segment", "header cut short")
    try:
        schemas = _schemas_payload.decode(bytes(data[HEADER_BYTES : HEADER_BYTES + nblob]))
        name = session.rstrip(b"\0").decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise GarbageError("segment", f"header is damaged: {e}") from e
    return SegmentHeader(
        session=name,
        first_seq=first,
        wall_ns=wall,
        mono_ns=mono,
        size=size,
        data_at=HEADER_BYTES + (nblob + 7 & ~7),
        schemas=schemas,
    )


def _record_at(data: memoryview, at: int, schemas: dict[int, tuple[str, ...]]) -> tuple[Record | None, int]:
    """The record at ``at`` and its length; None for a schema declaration (taken into ``schemas``). Raises GarbageError."""
    if at + OVERHEAD > len(data):
        raise GarbageError("torn", "the data end inside a record")
    word, step, branch, time = _FIXED.unpack_from(data, at)
    schema, length = word >> 32, word & 0xFFFFFFFF
    if schema < 0 or length < OVERHEAD or length % 8 or length > MAX_RECORD:
        raise GarbageError("record", "no record begins here")
    if at + length > len(data):
        raise GarbageError("torn", "the data end inside a record")
    (seq,) = _SEQ.unpack_from(data, at + length - 8)
    if seq <= 0:
        raise GarbageError("torn", "record without its commit mark")
    if schema >= FIRST_USER_SCHEMA:
        names = schemas.get(schema)
        if names is None or length != OVERHEAD + 8 * len(names):
            raise _DamagedError(f"schema {schema} is unknown or does not fit", seq, length)
        values = point_struct(len(names)).unpack_from(data, at)[4:-1]
        return Point(seq, step, branch, time, names, values), length
    (nbytes,) = _SEQ.unpack_from(data, at + _FIXED.size)
    if not 0 <= nbytes <= length - _BLOB.size - _SEQ.size:
        raise _DamagedError("payload does not fit its record", seq, length)
    payload = bytes(data[at + _BLOB.size : at + _BLOB.size + nbytes])
    try:
        if schema == EVENT and not payload:
            return Happening(seq, step, branch, time, Hole()), length
        if schema == EVENT:
            return Happening(seq, step, branch, time, _event(payload)), length
        number, declared = _schema_payload.decode(payload)
        schemas[number] = tuple(declared)
    except (msgspec.DecodeError, ValueError, RecursionError) as e:
        raise _DamagedError(f"payload is damaged: {e}"[:MOST_WHY], seq, length) from e
    return Happening(seq, step, branch, time, Hole()), length


def _event(payload: bytes) -> AnyEvent | UnknownEvent:
    """Raises msgspec.DecodeError, ValueError, RecursionError where it is damage rather than another version's."""
    try:
        return _events.decode(payload)
    except msgspec.ValidationError as e:
        found = msgspec.msgpack.decode(payload)
        kind = found.get("event") if isinstance(found, dict) else None
        if not isinstance(kind, str) or not 0 < len(kind) <= MOST_KIND:
            raise
        return UnknownEvent(kind=kind, payload=payload, why=str(e)[:MOST_WHY])


def decode_stream(
    data: bytes | memoryview, schemas: dict[int, tuple[str, ...]], first: int, count: int
) -> list[Record]:
    """A shipment's raw records, which must be exactly ``count`` with sequences first, first+1, …

    ``schemas`` is updated by declarations met on the way; a declaration itself comes out as a ``Hole`` (it takes a sequence number and
    carries no value), and a damaged record as a ``DamagedRecord``: sent again it would be the same. Raises GarbageError if lengths and
    sequence do not fit: then nothing of the shipment may be taken.
    """
    view, at, out = memoryview(data), 0, []
    for expected in range(first, first + count):
        try:
            record, length = _record_at(view, at, schemas)
        except _DamagedError as e:
            record, length = e.record(), e.length
        if record is None or record.seq != expected:
            raise GarbageError("record", f"sequence {record and record.seq}, expected {expected}")
        out.append(record)
        at += length
    if at != len(view):
        raise GarbageError("record", f"{len(view) - at} bytes left over after {count} records")
    return out


def scan_segment(data: bytes | memoryview, header: SegmentHeader) -> Iterator[Record | None]:
    """Every whole record of a segment file, in file order; None for each torn one. A damaged one is told (``DamagedRecord``) where the one
    before it ends and with the number that comes next; anywhere else what looks so may be nonsense altogether.

    Empty slots (holes) are stepped over 8 bytes at a time. After a nested write (a signal handler that logged) the file order of sequence
    numbers may differ by a few: sort by ``seq``.
    """
    view = memoryview(data)
    schemas = {k: tuple(v) for k, v in header.schemas.items()}
    at, end = header.data_at, len(view)
    next_at, next_seq = at, header.first_seq
    while at + OVERHEAD <= end:
        (word,) = _SEQ.unpack_from(view, at)
        if word == 0:
            begun = _next_nonzero(view, at, end)
            next_at, at = begun if at == next_at else next_at, begun
            continue
        try:
            record, length = _record_at(view, at, schemas)
        except _DamagedError as e:
            if at != next_at or e.seq != next_seq:
                at += 8
                continue
            record, length = e.record(), e.length
        except GarbageError as e:
            if e.kind == "torn":
                yield None
            length = word & 0xFFFFFFFF if e.kind == "torn" and 0 < (word & 0xFFFFFFFF) <= MAX_RECORD else 8
            at += length - length % 8 or 8
            continue
        yield record
        at += length
        next_at, next_seq = at, (record.seq if record is not None else next_seq) + 1


def _next_nonzero(view: memoryview, at: int, end: int) -> int:
    """Offset (8-aligned) of the next word that is not zero, or ``end``; compares whole pages while they are empty."""
    page = 4096
    zeros = bytes(page)
    while at < end:
        n = min(page, end - at)
        if view[at : at + n] == zeros[:n]:
            at += n
            continue
        while at + 8 <= end and view[at : at + 8] == zeros[:8]:
            at += 8
        return at if at + 8 <= end else end
    return end
