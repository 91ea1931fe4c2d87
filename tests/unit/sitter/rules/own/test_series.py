"""Each function of the past against the plain formula over the same points."""

import copy
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitter.rules.own.series import SERIES

NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=60)


def slope(values: list[float]) -> float | None:
    if len(values) < 2:
        return None
    return float(np.polyfit(np.arange(len(values)) * 3.0, values, 1)[0])


def ema(values: list[float], n: int) -> float:
    weights = [(1 - 2 / (n + 1)) ** (len(values) - 1 - i) for i in range(len(values))]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


PLAIN = {
    "mean": lambda v, n: statistics.fmean(v[-n:]) if len(v) >= n else None,
    "median": lambda v, n: statistics.median(v[-n:]) if len(v) >= n else None,
    "min": lambda v, n: min(v[-n:]) if len(v) >= n else None,
    "max": lambda v, n: max(v[-n:]) if len(v) >= n else None,
    "std": lambda v, n: statistics.stdev(v[-n:]) if len(v) >= n > 1 else None,
    "slope": lambda v, n: slope(v[-n:]) if len(v) >= n else None,
    "ema": ema,
    "ago": lambda v, n: v[-1 - n] if len(v) > n else None,
    "best": lambda v, n: min(v),
    "first": lambda v, n: v[0],
    "points": lambda v, n: float(len(v)),
    "usual": lambda v, n: statistics.median(v[:-1][-40:]) if len(v) > 1 else None,
}


@pytest.mark.parametrize("name", PLAIN)
@settings(deadline=None)
@given(values=NUMBERS, n=st.integers(1, 12))
def test_it_is_what_the_formula_says(name: str, values: list[float], n: int) -> None:
    series = SERIES[name](n)
    scale = max(1.0, *(abs(v) for v in values))
    for i, value in enumerate(values):
        series.push(value, 3 * i)
        wanted, found = PLAIN[name](values[: i + 1], n), series.value()
        if wanted is None or found is None:
            assert found is wanted
        else:
            assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6 * scale)


def test_every_series_is_held_against_a_formula() -> None:
    assert set(PLAIN) | {"z"} == set(SERIES)


def test_rounding_does_not_add_up_over_a_long_run() -> None:
    mean, std = SERIES["mean"](50), SERIES["std"](50)
    for i in range(20_000):
        value = 1e9 if i == 100 else 2.0 + 1e-3 * math.sin(i)
        mean.push(value, i)
        std.push(value, i)
    last = [2.0 + 1e-3 * math.sin(i) for i in range(19_950, 20_000)]
    assert mean.value() == pytest.approx(statistics.fmean(last), rel=1e-12)
    assert std.value() == pytest.approx(statistics.stdev(last), rel=1e-6)


def test_z_counts_in_standard_deviations_of_what_came_before() -> None:
    rng, z = np.random.default_rng(1), SERIES["z"]()
    for i, value in enumerate(rng.normal(5.0, 0.1, 400)):
        z.push(float(value), i)
    z.push(6.0, 400)
    assert z.value() == pytest.approx(10.0, rel=0.4)


def test_the_best_of_a_goal_may_be_the_highest() -> None:
    best = SERIES["best"](higher=True)
    for i, value in enumerate([0.1, 0.7, 0.4]):
        best.push(value, i)
    assert best.value() == 0.7


@pytest.mark.parametrize("name", SERIES)
def test_a_copy_stays_what_it_was(name: str) -> None:
    series = SERIES[name](5)
    for i in range(12):
        series.push(float(i % 4), i)
    held, value = copy.deepcopy(series), series.value()
    for i in range(12, 30):
        series.push(9.0 * i, i)
    assert held.value() == value
    again = copy.deepcopy(held)
    for i in range(12, 30):
        held.push(9.0 * i, i)
    assert held.value() == series.value()
    assert again.value() == value
