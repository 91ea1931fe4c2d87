"""Contiguous records out of the segments, ready to ship."""

import time
from bisect import bisect_right
from operator import attrgetter
from typing import NamedTuple

from sitter_agent.segments import Segment, schemas_used
from sitter_wire.messages import ShipmentHeader

SCHEMAS_UNASKED = 16
"""Up to so many, a shipment repeats all schemas; beyond, only those it uses, which takes a look at every record."""


_FIRST = attrgetter("first")


class Stretch(NamedTuple):
    """Contiguous records to ship: the header, the raw bytes, and the cursor once they were sent."""

    header: ShipmentHeader
    raw: memoryview
    after: int


def stretch_of(
    segments: tuple[Segment, ...], session: str, first: int, max_bytes: int, schemas: dict[int, list[str]]
) -> Stretch | None:
    """Whole records from sequence ``first`` on out of one segment, at most ``max_bytes`` (one record at least).

    None where nothing is that new. Where ``first`` lies below the oldest segment, ``lost_from`` says what is not there
    any more. Raises OSError where a segment cannot be mapped again.
    """
    if not segments or first > segments[-1].last:
        return None
    lost_from = None
    if first < segments[0].first:
        lost_from, first = first, segments[0].first
    segment = segments[bisect_right(segments, first, key=_FIRST) - 1]
    view = segment.data()
    at = segment.offset_of(first, view)
    after, end = segment.cut(first, at, max_bytes, segment.last + 1, segment.end, view)
    if len(schemas) > SCHEMAS_UNASKED:
        used = schemas_used(view, at, end)
        schemas = {number: names for number, names in list(schemas.items()) if number in used}
    header = ShipmentHeader(
        session=session,
        first=first,
        count=after - first,
        schemas=schemas,
        clock=(time.time_ns(), time.monotonic_ns()),
        lost_from=lost_from,
    )
    return Stretch(header, view[at:end], after)
