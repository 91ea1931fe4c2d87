"""Roll-ups: what a stretch of values comes to, so that drawing need not read them.

A roll-up is (min, max, mean) over the finite values, the last value as it is, and the count of those not finite; where nothing is finite the
first three are NaN. Fine ones cover 64 points, a coarse one a whole chunk.
"""

import math
import struct
from array import array
from typing import NamedTuple

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
    n = len(finite)
    total = sum(finite)
    mean = total / n if total - total == 0.0 else sum(v / n for v in finite)
    return min(finite), max(finite), mean, values[-1], len(values) - n


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
    mean = sum(r[2] * (w / weight) for r, w in finite)
    return min(r[0] for r, _ in finite), max(r[1] for r, _ in finite), mean, rolls[-1][3], lost


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


def pack_fine(axes: FineAxes, columns: list[list[Roll]]) -> bytes:
    """The fine roll-ups of a chunk; each column can be read alone."""
    sections = [join(pack_ints(a) for a in axes)]
    for rolls in columns:
        lows, highs, means, lasts, lost = zip(*rolls, strict=True)
        counts = bytes(lost) if any(lost) else b""
        sections.append(join((pack_floats(array("d", lows + highs + means + lasts)), counts)))
    return join(sections)


def unpack_fine(data: bytes, n: int, column: int) -> tuple[FineAxes, list[Roll]]:
    """Bounds and roll-ups of one column of a chunk of ``n`` points. Raises DamagedChunkError."""
    count = -(-n // BLOCK)
    axes = section(data, 0)
    bounds = FineAxes(*(unpack_ints(section(axes, i), count) for i in range(4)))
    packed = section(data, column + 1)
    values = unpack_floats(section(packed, 0), 4 * count).tolist()
    lost = list(section(packed, 1)) or [0] * count
    return bounds, list(
        zip(values[:count], values[count : 2 * count], values[2 * count : 3 * count], values[3 * count :], lost, strict=True)
    )


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
    """A column's coarse roll-ups as parallel arrays (``lost``: the count of non-finite, as floats too)."""

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


def _unpack_page(kind: str, columns: int, data: bytes, out: "tuple[array[float], ...] | tuple[array[int], ...]") -> None:
    n, rest = divmod(len(data), 8 * columns)
    if rest:
        raise DamagedChunkError("a page of roll-ups is cut short")
    values = from_bytes(kind, data)
    for i, column in enumerate(out):
        column += values[i * n : (i + 1) * n]  # type: ignore[assignment,arg-type]  # both of one kind


def unpack_page_axes(pages: list[bytes]) -> Entries:
    """Several pages as one. Raises DamagedChunkError."""
    out = Entries(*(array("q") for _ in Entries._fields))
    for data in pages:
        _unpack_page("q", len(out), data, out)
    return out


def unpack_page_column(pages: list[bytes]) -> Coarse:
    """Several pages as one. Raises DamagedChunkError."""
    out = Coarse(*(array("d") for _ in Coarse._fields))
    for data in pages:
        _unpack_page("d", len(out), data, out)
    return out
