"""A roll-up says of a stretch what looking at every value would."""

import math
from array import array
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sitter.store import rolls

VALUES = st.lists(st.floats(width=64), min_size=1, max_size=300)
LARGEST = 1.7976931348623157e308


def brute(values: list[float]) -> tuple[float, float, float, int]:
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return math.nan, math.nan, math.nan, len(values)
    return min(finite), max(finite), float(sum(map(Fraction, finite)) / len(finite)), len(values) - len(finite)


def same(a: tuple[float, ...], b: tuple[float, ...], scale: float) -> bool:
    return all((x == y) or (x != x and y != y) or abs(x - y) <= 1e-9 * scale for x, y in zip(a, b, strict=True))


@given(VALUES)
@example([LARGEST] * 3)
@example([LARGEST, -LARGEST] * 50)
def test_a_roll_up_is_what_looking_at_every_value_gives(values: list[float]) -> None:
    low, high, mean, last, lost = rolls.roll(values)
    scale = max((abs(v) for v in values if math.isfinite(v)), default=1.0)
    assert same((low, high, mean, lost), brute(values), scale)
    assert array("d", [last]).tobytes() == array("d", [values[-1]]).tobytes()


@given(VALUES)
@example([LARGEST] * 3)
@example([LARGEST, -LARGEST] * 50)
def test_merged_roll_ups_are_the_roll_up_of_the_whole(values: list[float]) -> None:
    merged = rolls.merge(rolls.blocks(values), rolls.block_sizes(len(values)))
    scale = max((abs(v) for v in values if math.isfinite(v)), default=1.0)
    assert same((merged[0], merged[1], merged[2], merged[4]), brute(values), scale)


@given(st.lists(st.tuples(st.floats(width=64), st.integers(-(2**40), 2**40), st.integers(0, 2**40)), min_size=1, max_size=200))
def test_fine_roll_ups_come_back(points: list[tuple[float, int, int]]) -> None:
    values, steps, times = (list(c) for c in zip(*points, strict=True))
    axes = rolls.fine_axes(steps, times)
    packed = rolls.pack_fine(axes, [rolls.blocks(values), rolls.blocks(values[::-1])])
    assert rolls.unpack_fine_axes(packed, len(values)) == axes
    for column, of in ((0, values), (1, values[::-1])):
        found = rolls.unpack_fine(packed, len(values), column)
        assert [c.tobytes() for c in found] == [c.tobytes() for c in rolls.parallel(rolls.blocks(of))]


def test_a_page_cut_short_is_damaged() -> None:
    with pytest.raises(rolls.DamagedChunkError):
        rolls.unpack_page_column([bytes(100)])
