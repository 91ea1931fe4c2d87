"""Times for people and for machines, also such as no calendar has."""

import math

import pytest

from sitter.cli.common import plain
from sitter.clock import UNKNOWN, iso


@pytest.mark.parametrize("wall", [1e12, 1e18, -1e18, math.nan, math.inf])
def test_a_time_that_no_calendar_has_is_unknown(wall):
    assert iso(wall) == UNKNOWN
    assert plain({"time": wall}) == ({"time": None} if math.isfinite(wall) else {"time": str(wall)})


def test_a_usual_time_has_its_offset():
    assert iso(0.0).startswith(("1970-01-01T", "1969-12-31T"))
    assert plain({"ends_at": 0.0}) == {"ends_at": iso(0.0)}
