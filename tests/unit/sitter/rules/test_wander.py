import math
import random
from itertools import pairwise

import pytest

from sitter.rules.course import Noise, Witnesses
from sitter.rules.guard_excursion import FAR_POINTS, Excursion
from sitter.rules.robust import MAD_TO_SIGMA, Robust
from sitter.rules.wander import BLOCK, Smoothness, strayed, turned


def noise(n: int, sigma: float = 0.1, keep: float = 0.0, seed: int = 3, drift: float = 0.0) -> list[float]:
    """Normal noise of that standard deviation: each point a throw of its own, or a running mean that keeps so much of what was."""
    rng, value, values = random.Random(seed), 0.0, []
    for i in range(n):
        value = keep * value + math.sqrt(1.0 - keep * keep) * rng.gauss(0.0, sigma)
        values.append(value + drift * i)
    return values


def smoothness(values: list[float]) -> Smoothness:
    known = Smoothness()
    known.count(*turned([b - a for a, b in pairwise(values)]))
    return known


@pytest.mark.parametrize("keep", [0.8, 0.9, 0.98])
def test_a_running_mean_is_known_by_how_seldom_it_turns_whatever_its_drift(keep: float) -> None:
    assert smoothness(noise(2000, keep=keep, drift=-0.001)).is_smoothed


@pytest.mark.parametrize("seed", range(5))
def test_white_noise_is_no_running_mean(seed: int) -> None:
    assert not smoothness(noise(BLOCK + 2, seed=seed, drift=-0.001)).is_smoothed


def test_of_the_first_block_nothing_is_known() -> None:
    assert not smoothness(noise(BLOCK // 2, keep=0.9)).is_smoothed


def test_what_was_once_white_noise_is_no_running_mean_however_smoothly_it_spikes_later() -> None:
    known = smoothness(noise(BLOCK + 2))
    known.count(*turned([b - a for a, b in pairwise(noise(2000, keep=0.95))]))
    assert not known.is_smoothed


def test_points_further_apart_tell_how_far_a_running_mean_wanders_and_its_drift_does_not() -> None:
    values = noise(4000, 0.1, keep=0.9, drift=-0.01)
    assert MAD_TO_SIGMA * strayed(values) == pytest.approx(0.1, rel=0.2)
    neighbours = sorted(abs(b - a) for a, b in pairwise(values))
    assert MAD_TO_SIGMA * neighbours[len(neighbours) // 2] / math.sqrt(2) < 0.05  # by which each turn would be a wonder
    assert strayed(values[:40]) == 0.0


def test_what_is_usual_of_a_running_mean_is_as_wide_as_it_wanders() -> None:
    means, throws = Robust(), Robust()
    for mean, throw in zip(noise(4000, 0.1, keep=0.9), noise(4000, 0.1), strict=True):
        means.push(mean)
        throws.push(throw)
    assert means.is_smoothed
    assert not throws.is_smoothed
    assert means._least_sigma == pytest.approx(0.1, rel=0.25)
    assert throws._least_sigma == pytest.approx(0.1, rel=0.25)
    spread = Noise(smoothed=True)
    for step, value in enumerate(noise(4000, 0.1, keep=0.9)):
        spread.push(step, value)
    assert spread.tails == pytest.approx(0.1, rel=0.5)


def test_an_excursion_stands_out_of_a_falling_loss_whose_window_is_wide_by_its_descent() -> None:
    falling, usual = Excursion(), Robust()
    rng = random.Random(1)
    for step in range(60):
        value = -0.02 * step + rng.gauss(0.0, 0.02)
        usual.push(value)
        assert not falling.push(step, value, usual.high, frozen=False)
    now = -0.02 * 60 + math.log(2.5)
    assert usual.z(now) < 4.0  # nothing to say, by the whole window
    said = [falling.push(60 + i, now, usual.high, frozen=False) for i in range(FAR_POINTS)]
    assert said == [False] * (FAR_POINTS - 1) + [True]
    assert falling.rise == pytest.approx(math.log(2.5), abs=0.2)
    falling.forget()
    assert not falling.push(63, now, usual.high, frozen=True)


def test_a_loss_that_comes_back_to_where_it_has_just_been_is_no_excursion() -> None:
    """Examples in the order of their difficulty: the loss falls for a dozen points, and is where it was."""
    away, usual, rng = Excursion(), Robust(), random.Random(1)
    for step in range(120):
        value = (-1.0 if step % 40 >= 26 else 0.0) + rng.gauss(0.0, 0.05)
        assert not away.push(step, value, usual.high if step >= 40 else 9.0, frozen=False)
        usual.push(value)


def told(train: list[float], val: list[float]) -> Witnesses:
    both = Witnesses()
    for step, (a, b) in enumerate(zip(train, val, strict=True)):
        both.loss(math.log(a))
        both.val_loss(step, b)
    return both


def test_a_training_loss_that_rises_first_and_settles_and_a_validation_loss_that_follows_are_apart() -> None:
    together = told([2.0] * 9 + [2.9] * 5, [2.1] * 9 + [3.0] * 5)
    assert together.rise == pytest.approx(math.log(3.0 / 2.1))
    assert not together.apart
    follows = told([2.0] * 9 + [2.9] * 7, [2.1] * 9 + [2.15, 2.2, 2.3, 2.5, 2.8, 3.0, 3.1])
    assert follows.rise is not None
    assert follows.rise > math.log(1.25)
    assert follows.apart
    rises = told([2.0] * 9 + [2.2, 2.4, 2.6, 2.8, 3.0, 3.2, 3.4], [2.1] * 9 + [2.15, 2.2, 2.3, 2.5, 2.8, 3.0, 3.1])
    assert rises.rise is not None
    assert rises.rise > math.log(1.25)
    assert not rises.apart
