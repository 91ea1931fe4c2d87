"""The course of a loss: level, noise, rise from the best, two witnesses; and the rules on it when the training goes back."""

import copy
import math
import random

import pytest

from sitter.model import Finding
from sitter.rules.base import Rule, gave_up, recovered
from sitter.rules.course import LEVEL_POINTS, FromBest, Level, Noise, Witnesses
from sitter.rules.divergence import Divergence
from sitter.rules.engine import Engine
from sitter.rules.overfit import Overfit
from sitter.rules.plateau import Plateau
from sitter.rules.spike import Spike
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Rollback
from sitter_wire.events import Restored, SnapshotTaken
from sitter_wire.records import Happening


def test_noise_is_a_standard_deviation_whatever_the_drift():
    rng = random.Random(1)
    noise = Noise()
    for i in range(2000):
        noise.push(i, -0.01 * i + rng.gauss(0, 0.2))
    assert noise.middle == pytest.approx(0.2, rel=0.2)
    assert noise.tails == pytest.approx(0.2, rel=0.25)


def test_a_signal_that_swings_has_wide_tails():
    noise = Noise()
    for i in range(500):
        noise.push(i, 0.5 if i % 4 == 0 else 0.001 * (i % 3))
    assert noise.tails > 5 * noise.middle or noise.middle > 0.2


@pytest.mark.parametrize("seldom", [5, 100, 3000])
def test_who_asks_for_the_noise_seldom_hears_the_same(seldom):
    rng = random.Random(4)
    lazy, asked = Noise(), Noise()
    for i in range(3000):
        value = rng.gauss(0, 0.2 if i % 700 < 500 else 0.02)
        for noise in (lazy, asked):
            noise.push(i, value)
        distances = asked.tails, len(asked)
        if i % seldom == seldom - 1:
            assert (lazy.tails, len(lazy)) == distances
            assert lazy.middle == asked.middle


def test_where_the_log_becomes_sparse_the_noise_is_learned_anew():
    noise = Noise()
    for i in range(100):
        noise.push(i, 0.001 * i)
    assert len(noise) == 99
    for step in (600, 1100, 1600):
        noise.push(step, step / 1000)
    assert len(noise) == 3
    assert noise.middle > 0.3


def test_the_level_is_the_median_of_the_last_points():
    level = Level()
    values = [math.sin(i * i) for i in range(60)]
    for i, value in enumerate(values):
        level.push(value)
        last = sorted(values[max(0, i + 1 - LEVEL_POINTS) : i + 1])
        half = len(last) // 2
        assert level.centre == pytest.approx(last[half] if len(last) % 2 else (last[half - 1] + last[half]) / 2)


def test_from_the_best_median_not_from_the_best_point():
    rise = FromBest(3)
    for value in (1.0, 1.0, 1.0, -5.0, 1.0, 1.0, 1.5, 1.5, 1.5):
        rise.push(value)
    assert rise.best == 1.0
    assert rise.rise == pytest.approx(0.5)


def evaluated(train: float, val: float, witnesses: Witnesses, step: int) -> None:
    for _ in range(10):
        witnesses.loss(math.log(train))
    witnesses.val_loss(step, val)


def test_two_witnesses_say_what_the_lesser_says():
    witnesses = Witnesses()
    for step in range(0, 100, 10):
        evaluated(2.0, 2.2, witnesses, step)
    for step in range(100, 130, 10):
        evaluated(4.0, 2.2 * 1.3, witnesses, step)
    assert witnesses.rise == pytest.approx(math.log(1.3))
    assert witnesses.well == 100  # the median of three still stood where it had been
    alone = Witnesses()
    for step in range(0, 300, 10):
        evaluated(2.0, 2.2 * (1 + step / 100), alone, step)
    assert alone.rise == pytest.approx(0.0)


@pytest.mark.parametrize("make", [Noise, Level, Witnesses, lambda: FromBest(3)])
def test_a_copy_goes_its_own_way(make):
    one = make()

    def push(thing: object, i: int) -> None:
        if isinstance(thing, Witnesses):
            evaluated(2.0 + i, 2.0 + i, thing, i)
        elif isinstance(thing, Noise):
            thing.push(i, float(i * i))
        else:
            thing.push(float(i * i))  # type: ignore[attr-defined]

    def says(thing: object) -> list[object]:
        return [getattr(thing, name, None) for name in ("middle", "tails", "centre", "rise", "best", "now", "well", "z")]

    for i in range(30):
        push(one, i)
    before, other = says(one), copy.deepcopy(one)
    for i in range(30, 60):
        push(other, i)
    assert says(one) == before
    assert says(other) != before
    for i in range(30, 60):
        push(one, i)
    assert says(one) == says(other)


def happens(event: SnapshotTaken | Restored) -> Happening:
    return Happening(0, event.step, event.branch, 0, event)


def told(rule: Rule, factor: float) -> tuple[Engine, list[Finding]]:
    """A calm run with a snapshot at step 200, and from 300 on ``factor`` × its level."""
    engine, found = Engine([rule], RunView(scales={"lr": 1.0}, in_session=True, state="running")), []
    for step in range(340):
        if step == 200:
            engine.happened(happens(SnapshotTaken(slot=0, branch=0, step=200, bytes=0, seconds=0.0)))
        level = 2.0 * math.exp(0.02 * math.sin(step)) * (factor if step >= 300 else 1.0)
        values = {"loss": level, "val_loss": level} if step % 5 == 0 else {"loss": level}
        found += engine.observe(Sample(step=step, branch=0, time=float(step), values=values))
    return engine, found


@pytest.mark.parametrize("make", [Spike, Divergence])
def test_going_back_ends_what_was_said_and_the_level_is_the_one_of_then(make):
    engine, found = told(make(), 1.6)
    (said,) = [f for f in found if f.severity == "warning"]
    engine.happened(happens(Restored(branch=1, step=200, from_branch=0, left=340, source="snapshot")))
    after = [f for step in range(201, 260) for f in engine.observe(Sample(step, 1, 400.0 + step, {"loss": 2.0, "val_loss": 2.0}))]
    if make is Spike:  # after twenty points it had been taken for usual, and said so
        assert any(gave_up(f) for f in found)
        assert after == []
    else:
        assert [f.key for f in after if recovered(f)] == [said.key]
        assert isinstance(said.actions[0], Rollback)
        assert said.actions[0].also_scale == {"lr": 0.5}
    again = [f for step in range(260, 280) for f in engine.observe(Sample(step, 1, 700.0, {"loss": 3.3, "val_loss": 3.3}))]
    assert [f.severity for f in again if f.severity == "warning"]


@pytest.mark.parametrize("make", [Spike, Divergence, Overfit, Plateau])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf, 1e300, 5e-324])
def test_no_value_breaks_a_rule(make, value):
    engine = Engine([make()], RunView(scales={"lr": 1.0}, in_session=True, state="running", goal="val_loss"))
    rng = random.Random(3)
    for step in range(1500):
        odd = step % 7 == 3
        loss = value if odd else math.exp(rng.gauss(0, 0.1))
        engine.observe(Sample(step, 0, float(step), {"loss": loss, "val_loss": value if step % 14 == 3 else loss, "lr_scheduled": loss}))
    assert engine.broken == {}
