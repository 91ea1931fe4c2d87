import copy
import math
import random

import pytest

from sitter.rules.cases.guard import higher, with_val
from sitter.rules.guard import Guard
from sitter.rules.guard_rate import RECENT, Rate
from sitter.rules.guard_shift import NEW_POINTS, Level
from sitter.rules.guard_signs import gap, is_training_loss
from sitter.rules.view import RunView, Sample


def rate_of(*values: float) -> Rate:
    rate = Rate()
    for step, value in enumerate(values):
        rate.record(step, value)
    return rate


def test_a_jump_to_where_the_rate_has_never_been() -> None:
    jump = rate_of(*[1e-3] * 50, *[1e-1] * 4).jump(3.0)
    assert jump is not None
    assert (jump.step, jump.usual, jump.factor) == (50, 1e-3, pytest.approx(100.0))


def test_a_jump_that_is_over_is_none() -> None:
    assert rate_of(*[1e-3] * 50, *[1e-1] * 4, 1e-3).jump(3.0) is None


def test_late_in_a_cosine_a_jump_beyond_the_peak_is_one_and_to_the_peak_is_a_restart() -> None:
    cosine = [0.5 * (1 + math.cos(math.pi * i / 100)) for i in range(97)]
    assert rate_of(*cosine, 2.0).jump(3.0) is not None
    restart = rate_of(*cosine, 1.0, 1.0)
    assert restart.jump(3.0) is None
    assert restart.was_raised(3.0)
    assert not rate_of(*cosine).was_raised(3.0)


def test_a_bug_that_is_over_is_no_restart_of_the_schedule() -> None:
    assert not rate_of(*[1e-3] * 50, *[1e-1] * 3, *[1e-3] * 5).was_raised(3.0)


def test_after_a_window_a_jump_has_been_survived() -> None:
    assert rate_of(*[1e-3] * 50, *[1e-1] * (RECENT + 1)).jump(3.0) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_what_is_no_rate_is_ignored(bad: float) -> None:
    rate = rate_of(*[1e-3] * 50, bad)
    assert rate.now == 1e-3


def test_a_second_value_of_a_step_replaces_the_first() -> None:
    rate = rate_of(*[1e-3] * 50)
    rate.record(49, 5e-3)
    assert rate.now == 5e-3


def test_a_level_that_rises_slowly_is_seen_without_any_point_that_stands_out() -> None:
    rng, level, seen = random.Random(2), Level(), []
    for step in range(300):
        rise = 0.5 * min(1.0, max(0, step - 150) / 30)
        if level.push(step, 0.6 + rise + rng.gauss(0, 0.12), frozen=False):
            shift = level.shift()
            if shift.factor > 1.4 and shift.z > 8:
                seen.append((step, shift.since))
    assert seen
    assert 160 < seen[0][0] < 200
    assert seen[0][1] <= 155, "goes back to before it began"


def test_a_level_that_falls_or_stays_is_not() -> None:
    rng, level = random.Random(2), Level()
    for step in range(3000):
        if level.push(step, -step / 1000 + rng.gauss(0, 0.3), frozen=False):
            assert level.shift().z < 8
    assert NEW_POINTS < RECENT


def test_the_gap_of_a_log_is_its_usual_one() -> None:
    from collections import deque

    assert gap(deque([0, 100, 200, 300, 1000])) == 100
    assert gap(deque([5])) == 0


def test_which_losses_are_the_trainings_own() -> None:
    others = ("val_loss", "eval_loss", "test_loss", "lr", "glossy", "loss_scale", "loss/scale", "grad_norm.loss", "update_ratio.arc_loss")
    assert [n for n in ("loss", "g_loss", "loss_d", "multiscale_loss", *others) if is_training_loss(n)] == [
        "loss", "g_loss", "loss_d", "multiscale_loss",
    ]  # fmt: skip


@pytest.mark.parametrize(("goes_back", "sees"), [(False, True), (True, False)])
def test_losses_at_a_rate_that_a_knob_raised_are_not_compared_with_those_before(goes_back: bool, sees: bool) -> None:
    """A rate at a tenth, given back as the losses begin to rise; and again after a restore, which leaves the knob where it is."""
    said, view, guard = [], RunView(scales={"lr": 1.0}), Guard()
    for sample in with_val(higher, loss=higher, n=500, noise=0.12)():
        if sample.step == 200 and goes_back:
            view.scales = {"lr": 1.0}
        elif sample.step < 200 and goes_back:
            view.scales = {"lr": 0.1}
        found = guard.observe(sample, view)
        said += [found.text] if found is not None and "validation" in found.text else []
        if sample.step == 199:
            kept = guard.state()
        elif sample.step == 210:
            guard.set_state(kept)
    assert bool(said) is sees


def test_the_memory_is_copied_whole() -> None:
    """Two guards, one copied in the middle: the rest of the run looks the same to both, and to each by itself."""
    rng, view = random.Random(1), RunView(scales={"lr": 1.0})
    samples = [
        Sample(i, 0, i * 0.1, {"loss": 2 * math.exp(rng.gauss(0, 0.1)), "grad_norm": math.exp(rng.gauss(0, 0.4)), "lr": 1e-3})
        for i in range(400)
    ]
    one = Guard()
    for sample in samples[:200]:
        one.observe(sample, view)
    kept = one.state()
    twin = Guard()
    twin.set_state(kept)
    for sample in samples[200:]:
        one.observe(sample, view)
    for sample in samples[200:]:
        twin.observe(sample, view)
    assert (twin.memory.loss.centre, twin.memory.loss.sigma) == (one.memory.loss.centre, one.memory.loss.sigma)
    assert twin.memory.level.shift() == one.memory.level.shift()
    for name, value in vars(one.memory).items():
        if isinstance(value, int | float | bool | set | type(None)) or hasattr(value, "maxlen"):
            assert getattr(twin.memory, name) == value, name
    again = Guard()
    again.set_state(copy.deepcopy(kept))
    assert len(again.memory.level._new) == NEW_POINTS
