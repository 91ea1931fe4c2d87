import copy
import random
import statistics

from hypothesis import given
from hypothesis import strategies as st

from sitter.rules.robust import MAD_TO_SIGMA, WINDOW, Robust, median

values = st.lists(st.floats(-50, 50, allow_nan=False), min_size=1, max_size=3 * WINDOW)


@given(values)
def test_median_and_mad_are_those_of_the_last_window(xs: list[float]) -> None:
    robust = Robust(least=1e-12)
    for x in xs:
        robust.push(x)
    window = xs[-WINDOW:]
    centre = statistics.median(window)
    mad = statistics.median(abs(x - centre) for x in window)
    assert robust.centre == centre
    assert len(robust) == len(window)
    if len(xs) <= WINDOW:  # no floor is learned yet
        assert robust.sigma == max(MAD_TO_SIGMA * mad, 1e-12)
    else:
        assert robust.sigma >= MAD_TO_SIGMA * mad


@given(values, st.floats(-50, 50), st.sampled_from([0.0, 0.5, 4.0, 8.0]))
def test_what_is_called_usual_has_no_z_above_the_bar(xs: list[float], value: float, bar: float) -> None:
    robust = Robust()
    for x in xs:
        if robust.is_usual(x, bar):
            assert robust.z(x) <= bar
        robust.push(x)
    if robust.is_usual(value, bar):
        assert robust.z(value) <= bar


@given(st.lists(st.floats(-50, 50, allow_nan=False), min_size=1, max_size=6 * WINDOW), st.integers(1, 60))
def test_who_asks_seldom_hears_the_same(xs: list[float], seldom: int) -> None:
    """Values are sorted in together; that shows nowhere, and the bound on the median that is used meanwhile holds."""
    lazy, asked = Robust(), Robust()
    for i, x in enumerate(xs):
        lazy.push(x)
        asked.push(x)
        assert lazy.low <= asked.centre
        assert len(lazy) == len(asked)
        assert asked.sigma >= 0.01
        if i % seldom == 0:
            assert (lazy.centre, lazy.sigma) == (asked.centre, asked.sigma)
    assert (lazy.centre, lazy.sigma) == (asked.centre, asked.sigma)


def test_once_the_noise_is_known_nearly_all_ordinary_values_need_no_z() -> None:
    rng = random.Random(3)
    robust = Robust()
    usual = 0
    for i in range(20 * WINDOW):
        x = rng.gauss(0.0, 0.1)
        usual += i > WINDOW and robust.is_usual(x, 4.0)
        robust.push(x)
    assert usual > 0.99 * 19 * WINDOW
    assert not Robust(least=0.0).is_usual(1.0, 4.0), "of a noise that is not known nothing can be said"


def test_a_quiet_stretch_does_not_make_the_next_ordinary_value_look_extreme() -> None:
    rng = random.Random(3)
    robust = Robust()
    for _ in range(20 * WINDOW):
        robust.push(rng.gauss(0.0, 0.1))
    for _ in range(WINDOW):
        robust.push(rng.gauss(0.0, 0.001))
    assert abs(robust.z(0.3)) < 8, "3 sigma of the run's usual noise"


def test_the_floor_is_of_the_noise_and_not_of_the_drift() -> None:
    rng = random.Random(3)
    robust = Robust()
    for i in range(20 * WINDOW):
        robust.push(-0.02 * i + rng.gauss(0.0, 0.05))
    for _ in range(2 * WINDOW):
        robust.push(-16.0 + rng.gauss(0.0, 0.05))
    assert robust.sigma < 0.1


def test_without_noise_a_hundredth_is_the_least() -> None:
    robust = Robust()
    for _ in range(WINDOW):
        robust.push(1.0)
    assert robust.sigma == 0.01


def test_a_copy_goes_its_own_way() -> None:
    robust = Robust()
    for i in range(2 * WINDOW):
        robust.push(float(i % 7))
    twin = copy.deepcopy(robust)
    assert (twin.centre, twin.sigma) == (robust.centre, robust.sigma)
    before = robust.centre
    for _ in range(WINDOW):
        twin.push(99.0)
    assert robust.centre == before


def test_median_of_even_and_odd() -> None:
    assert median([1.0, 2.0, 4.0]) == 2.0
    assert median([1.0, 2.0, 4.0, 8.0]) == 3.0
