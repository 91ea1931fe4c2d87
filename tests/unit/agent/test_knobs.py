"""Knobs: bounds hold, scales move as they say, nothing compounds."""

import pytest

from sitter_agent.knobs import FreeKnob, check_expected, moved, nearest_power, unmoved


class Box:
    def __init__(self, value):
        self.value = value

    def knob(self, low=1e-6, high=1.0, scale="log", name="lr"):
        return FreeKnob(name, lambda: self.value, lambda v: setattr(self, "value", v), low, high, scale)


def test_shown_is_scheduled_times_scale():
    box = Box(0.1)
    knob = box.knob()
    assert knob.change("scale", 0.5, group=None, hold=False) == (0.1, 0.05)
    assert (knob.scheduled(), knob.scale, knob.effective()) == (pytest.approx(0.1), 0.5, 0.05)
    knob.change("scale", 0.5, group=None, hold=False)
    assert (knob.scheduled(), knob.scale, box.value) == (pytest.approx(0.1), 0.25, 0.025)


def test_a_schedule_that_multiplies_its_own_value_is_not_compounded():
    box = Box(0.1)
    knob = box.knob()
    knob.change("scale", 0.5, group=None, hold=False)
    for _ in range(10):
        box.value *= 0.9
        assert knob.keep() is None
    assert box.value == pytest.approx(0.05 * 0.9**10)


def test_a_script_that_writes_its_own_value_back_is_told_of():
    box = Box(0.1)
    knob = box.knob()
    knob.change("scale", 0.5, group=None, hold=False)
    box.value = 0.1
    assert "set lr back to 0.1" in knob.keep()
    assert knob.scale == 1.0
    assert knob.keep() is None


def test_a_held_value_stays_whatever_the_script_does():
    box = Box(0.1)
    knob = box.knob()
    knob.change("value", 0.02, group=None, hold=True)
    box.value = 0.3
    knob.keep()
    assert box.value == 0.02
    knob.change("scale", 1.0, group=None, hold=False)
    box.value = 0.3
    knob.keep()
    assert box.value == 0.3


@pytest.mark.parametrize("amount", [1.1, 0.0, -1.0, float("nan"), float("inf")])
def test_bounds_hold_and_nothing_changes(amount):
    box = Box(0.1)
    knob = box.knob()
    with pytest.raises(ValueError, match="lr ="):
        knob.change("value", amount, group=None, hold=False)
    assert (box.value, knob.scale, knob.held) == (0.1, 1.0, False)


def test_betas_move_in_one_minus_beta():
    box = Box(0.9)
    knob = box.knob(0.0, 0.9999, "log1m", "momentum")
    old, new = knob.change("scale", 0.5, group=None, hold=False)
    assert (old, new) == (0.9, pytest.approx(0.95))
    assert knob.scheduled() == pytest.approx(0.9)
    assert unmoved(moved(0.9, 0.3, "log1m"), 0.3, "log1m") == pytest.approx(0.9)


def test_powers_of_two_stay_powers_of_two():
    box = Box(64)
    knob = box.knob(1, 1024, "pow2", "batch")
    assert knob.change("scale", 0.4, group=None, hold=False) == (64, 32)
    with pytest.raises(ValueError, match="no power of two: the nearest is 64"):
        knob.change("value", 48 + 1, group=None, hold=False)
    assert nearest_power(100) == 128


def test_a_set_that_does_not_take_is_refused_and_undone():
    box = Box(0.1)
    written = []
    knob = FreeKnob("lr", lambda: box.value, written.append, 1e-6, 1.0, "log")
    with pytest.raises(ValueError, match=r"was set to 0\.05 and reads 0\.1"):
        knob.change("scale", 0.5, group=None, hold=False)
    assert written == [0.05, 0.1]


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(1, 1, "linear"), (0, 1, "log"), (0.5, 1.0, "log1m"), (0, float("inf"), "linear"), (2, 1, "linear")],
)
def test_bounds_that_make_no_sense_are_refused(low, high, scale):
    with pytest.raises(ValueError, match="knob lr"):
        Box(0.1).knob(low, high, scale)


def test_what_the_sender_believed_is_compared():
    knob = Box(0.1).knob()
    check_expected(knob, None)
    check_expected(knob, 0.1 * (1 + 1e-7))
    with pytest.raises(ValueError, match=r"lr is 0\.1 now, not 0\.11"):
        check_expected(knob, 0.11)


def test_a_restore_puts_our_scale_of_now_on_the_value_of_then():
    """The state holds the rate: at the snapshot unscaled, now scaled by half. Restored unscaled, it gets the half again."""
    box = Box(0.1)
    knob = box.knob()
    knob.change("scale", 0.5, group=None, hold=False)
    box.value = 0.08  # as load() brought it back, of a time when the scale was 1
    knob.put_back(before=0.05, scale_then=1.0)
    assert box.value == pytest.approx(0.04)


def test_a_restore_leaves_a_value_alone_that_the_state_does_not_hold():
    box = Box(0.1)
    knob = box.knob()
    knob.change("scale", 0.5, group=None, hold=False)
    knob.put_back(before=0.05, scale_then=1.0)
    assert box.value == 0.05
