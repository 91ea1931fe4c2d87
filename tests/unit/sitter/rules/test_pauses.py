"""How long a run may be silent, learned from its own pauses."""

import math
import random
from collections import Counter

import pytest

from sitter.rules.pauses import PER_OCTAVE, Pauses, t_quantile


def learned(*seconds):
    pauses = Pauses()
    for s in seconds:
        pauses.add(s)
    return pauses


@pytest.mark.parametrize(
    ("tail", "dof", "value"),  # R: qt(tail, dof, lower.tail = FALSE)
    [(0.025, 4, 2.776445), (0.01, 10, 2.763769), (0.0005, 5, 6.868827), (4.5e-4, 13, 4.277528), (5e-14, 1e6, 7.441007)],
)
def test_the_quantile_is_students(tail, dof, value):
    assert t_quantile(tail, dof) == pytest.approx(value, rel=1e-5)


def test_nothing_is_explained_before_anything_was_seen():
    assert Pauses().explains() == 0.0


def test_the_bound_is_wide_after_one_pause_and_narrows_with_every_other():
    bounds = [learned(*[100.0] * count).explains() for count in (1, 3, 10, 100)]
    assert bounds == sorted(bounds, reverse=True)
    assert 250 < bounds[0] < 400
    assert 120 < bounds[-1] < 160


def test_a_kind_that_scatters_keeps_a_wide_bound():
    rng = random.Random(1)
    even = learned(*[60.0 * rng.lognormvariate(0.0, 0.02) for _ in range(50)])
    wild = learned(*[60.0 * rng.lognormvariate(0.0, 0.6) for _ in range(50)])
    assert wild.explains() > 4 * even.explains()


def test_an_evaluation_a_thousand_times_as_long_as_a_step_is_a_kind_of_its_own():
    pauses = learned(*[0.1 + 0.001 * (i % 7) for i in range(5000)])
    assert pauses.explains() < 1.0
    pauses.add(100.0)
    assert 200.0 < pauses.explains() < 400.0


def test_a_healthy_run_is_not_accused():
    """400 runs of 50 evaluations each: fewer than one in twenty of them may ever pass the bound that its earlier ones set."""
    rng = random.Random(7)
    accused = 0
    for _ in range(400):
        pauses, spread = learned(30.0), rng.uniform(0.02, 0.4)
        for _ in range(50):
            pause = 30.0 * rng.lognormvariate(0.0, spread)
            if pause > pauses.explains():
                accused += 1
                break
            pauses.add(pause)
    assert accused / 400 < 0.05, accused


def test_what_was_known_can_be_told_to_the_next():
    one = learned(1.0, 2.0, 600.0)
    two = Pauses()
    two.recall(one.longest, dict(one.bins))
    assert two.explains() == one.explains()


def test_every_pause_is_in_the_bin_of_its_logarithm():
    rng = random.Random(2)
    seconds = [0.1 * rng.lognormvariate(0.0, 0.2) for _ in range(2000)]
    places = [math.floor(math.log(s) / math.log(2.0) * PER_OCTAVE) for s in seconds]
    assert learned(*seconds).bins == dict(Counter(places))


def test_garbage_is_no_pause():
    pauses = learned(float("nan"), float("inf"), -1.0, 0.0)
    assert pauses.explains() == 0.0
