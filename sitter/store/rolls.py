"""Roll-ups: what a stretch of values comes to, so that drawing need not read them.

A roll-up is (min, max, mean) over the finite values, the last value as it is, and the count of those not finite; where nothing is
finite the first three are NaN. Fine ones cover 64 points, a coarse one a whole chunk.
"""

import math
import struct
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from sitter.store.chunks import (
    BLOCK,
    DamagedChunkError,
    from_bytes,
    join,
    pack_floats,
    pack_ints,
    section,
    to_bytes,
    unpack_floats,
    unpack_ints,
)

Roll = tuple[float, float, float, float, int]
"""(min, max, mean, last, count of non-finite)."""

COARSE = struct.Struct("<ddddq")
PAGE = 64
"""Chunks whose coarse roll-ups make one page: 65,536 points."""


def roll(values: list[float]) -> Roll:
    """The roll-up of at least one value."""
    total = sum(values)
    if total - total == 0.0:
        return min(values), max(values), total / len(values), values[-1], 0
    finite = [v for v in values if v - v == 0.0]
    if not finite:
        return math.nan, math.nan, math.nan, values[-1], len(values)
    n, low, high = len(finite), min(finite), max(finite)
    total = sum(finite)
    # Near the largest float their sum has no float, and the sum of their shares may round out of it.
    mean = total / n if total - total == 0.0 else max(low, min(high, sum(v / n for v in finite)))
    return low, high, mean, values[-1], len(values) - n


def blocks(values: list[float]) -> list[Roll]:
    """Fine roll-ups of a column."""
    return [roll(values[i : i + BLOCK]) for i in range(0, len(values), BLOCK)]


def block_sizes(n: int) -> list[int]:
    """Points under each fine roll-up of a chunk of ``n``."""
    return [BLOCK] * (n // BLOCK) + ([n % BLOCK] if n % BLOCK else [])


def merge(rolls: list[Roll], sizes: list[int]) -> Roll:
    """One roll-up of several that follow each other."""
    finite = [(r, n - r[4]) for r, n in zip(rolls, sizes, strict=True) if n > r[4]]
    lost = sum(r[4] for r in rolls)
    if not finite:
        return math.nan, math.nan, math.nan, rolls[-1][3], lost
    weight = sum(w for _, w in finite)
    low, high = min(r[0] for r, _ in finite), max(r[1] for r, _ in finite)
    mean = max(low, min(high, sum(r[2] * (w / weight) for r, w in finite)))
    return low, high, mean, rolls[-1][3], lost


class FineAxes(NamedTuple):
    """Bounds of each fine roll-up of a chunk, parallel; steps, and times in microseconds of the session's clock."""

    step_lo: list[int]
    step_hi: list[int]
    time_lo: list[int]
    time_hi: list[int]


def fine_axes(steps: list[int], times: list[int]) -> FineAxes:
    """The bounds; steps need not be in order within a block (a user's own counter may not be)."""
    cuts = range(0, len(steps), BLOCK)
    return FineAxes(
        [min(steps[i : i + BLOCK]) for i in cuts], [max(steps[i : i + BLOCK]) for i in cuts],
        [min(times[i : i + BLOCK]) for i in cuts], [max(times[i : i + BLOCK]) for i in cuts],
    )  # fmt: skip


def pack_fine_axes(chunks: Sequence[FineAxes]) -> bytes:
    """The bounds of one chunk's fine roll-ups, or of a whole page of chunks."""
    return join(pack_ints([v for chunk in chunks for v in chunk[i]]) for i in range(len(FineAxes._fields)))


def parallel(rolls: Sequence[Roll]) -> "Coarse":
    """Roll-ups as parallel arrays."""
    return Coarse(*(array("d", c) for c in zip(*rolls, strict=True)))


def pack_rolls(rolls: "Coarse") -> bytes:
    """Roll-ups of one column."""
    low, high, mean, last, lost = rolls
    return join((*map(pack_floats, (low, high, mean, last)), bytes(map(int, lost)) if any(lost) else b""))


def pack_fine(axes: FineAxes, columns: list[list[Roll]]) -> bytes:
    """The fine roll-ups of a chunk; each column can be read alone."""
    return join((pack_fine_axes([axes]), *(pack_rolls(parallel(rolls)) for rolls in columns)))


def unpack_bounds(data: bytes | memoryview, count: int, steps: bool, times: bool) -> FineAxes:
    """What ``pack_fine_axes`` made, ``count`` blocks; the bounds not asked for come out empty. Raises DamagedChunkError."""
    asked = (steps, steps, times, times)
    return FineAxes(*(unpack_ints(section(data, i), count) if wanted else [] for i, wanted in enumerate(asked)))


def unpack_rolls(data: bytes | memoryview, count: int) -> "Coarse":
    """What ``pack_rolls`` made, as parallel arrays. Raises DamagedChunkError."""
    low, high, mean, last = (unpack_floats(section(data, i), count) for i in range(4))
    lost = section(data, 4)
    if lost and len(lost) != count:
        raise DamagedChunkError("counts of the non-finite are cut short")
    return Coarse(low, high, mean, last, array("d", list(lost) or [0] * count))


def unpack_fine_axes(data: bytes, n: int) -> FineAxes:
    """The bounds in the fine roll-ups of a chunk of ``n`` points. Raises DamagedChunkError."""
    return unpack_bounds(section(data, 0), -(-n // BLOCK), True, True)


def unpack_fine(data: bytes, n: int, column: int) -> "Coarse":
    """Its roll-ups of one column. Raises DamagedChunkError."""
    return unpack_rolls(section(data, column + 1), -(-n // BLOCK))


class Entries(NamedTuple):
    """Chunks of a group as parallel arrays ``q``: number, points, session, branch, steps and times (µs) they span."""

    no: "array[int]"
    n: "array[int]"
    session: "array[int]"
    branch: "array[int]"
    step_lo: "array[int]"
    step_hi: "array[int]"
    time_lo: "array[int]"
    time_hi: "array[int]"


class Coarse(NamedTuple):
    """A column's roll-ups as parallel arrays (``lost``: the count of non-finite, as floats too)."""

    low: "array[float]"
    high: "array[float]"
    mean: "array[float]"
    last: "array[float]"
    lost: "array[float]"


def pack_page_axes(rows: list[tuple[int, ...]]) -> bytes:
    """``rows``: one ``Entries`` row for each chunk."""
    return b"".join(to_bytes(array("q", c)) for c in zip(*rows, strict=True))


def pack_page_column(rolls: list[Roll]) -> bytes:
    """The coarse roll-ups of one column of a page."""
    return b"".join(to_bytes(array("d", c)) for c in zip(*rolls, strict=True))


def _unpack_pages(kind: str, columns: int, pages: list[bytes]) -> "list[array[Any]]":
    size = 8 * PAGE
    if any(len(data) != columns * size for data in pages):
        raise DamagedChunkError("a page of roll-ups is cut short")
    return [from_bytes(kind, b"".join([data[at : at + size] for data in pages])) for at in range(0, columns * size, size)]


def unpack_page_axes(pages: list[bytes]) -> Entries:
    """Several pages as one. Raises DamagedChunkError."""
    return Entries(*_unpack_pages("q", len(Entries._fields), pages))


def unpack_page_column(pages: list[bytes]) -> Coarse:
    """Several pages as one. Raises DamagedChunkError."""
    return Coarse(*_unpack_pages("d", len(Coarse._fields), pages))
