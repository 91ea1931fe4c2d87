"""Goals, first steps, swings and rewards: what the cases in the rules' own files cannot tell, since it takes events or many seeds."""

import math
import random

import pytest

from sitter.rules.base import gave_up, recovered
from sitter.rules.cases.oscillation import swing
from sitter.rules.divergence import Divergence
from sitter.rules.early_stop import EarlyStop
from sitter.rules.kl_runaway import KlRunaway
from sitter.rules.oscillation import Oscillation
from sitter.rules.overfit import Overfit
from sitter.rules.plateau import Plateau
from sitter.rules.reward_collapse import RewardCollapse
from sitter.rules.spike import Spike
from sitter.rules.stuck_at_start import StuckAtStart, classes
from sitter.rules.too_slow import TooSlow, straightness
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Rollback, SetKnob, Stop
from sitter_wire.events import KnobChanged, Restored, SessionStart
from sitter_wire.records import Happening


def told(rule, points, view=None, first=0):
    view = view or RunView(scales={"lr": 1.0})
    found = [rule.observe(Sample(step=first + i, branch=0, time=float(i), values=values), view) for i, values in enumerate(points)]
    return [f for f in found if f is not None]


def restored(step):
    return Happening(0, step, 1, 0, Restored(step=step, branch=1, from_branch=0, left=step + 50, source="snapshot"))


def rate_changed(step):
    return Happening(0, step, 0, 0, KnobChanged(knob="lr", old=1.0, new=0.5, scale=0.5))


def stands(n):
    return [{"val_loss": 2.0} for _ in range(n)]


def test_a_stop_is_proposed_once_and_again_only_after_a_new_best():
    rule = EarlyStop()
    found = told(rule, stands(60))
    assert [type(a) for f in found for a in f.actions] == [Stop]
    assert told(rule, stands(60), first=60) == []
    better = told(rule, [{"val_loss": 1.5} for _ in range(3)], first=120)
    assert [f.evidence.get("recovered") for f in better] == [1]
    assert better[0].key == found[0].key


def test_a_changed_rate_gives_the_goal_its_patience_again():
    rule = EarlyStop()
    told(rule, stands(9))
    rule.happened(rate_changed(9), RunView())
    assert told(rule, stands(9), first=9) == []


def test_what_is_of_the_past_proposes_nothing():
    late = RunView(scales={"lr": 1.0}, late=True)
    assert [f.actions for f in told(EarlyStop(), stands(60), late)] == [[]]


def swings(n, period=20):
    rng = random.Random(2)
    return [{"loss": 2.0 * math.exp(rng.gauss(0, 0.03)) * swing(i, period)} for i in range(n)]


def test_swings_are_said_once_and_the_past_gets_no_proposal():
    points = swings(2000)
    found = told(Oscillation(), points)
    assert [type(a) for f in found for a in f.actions] == [SetKnob]
    assert [f.actions for f in told(Oscillation(), points, RunView(scales={"lr": 1.0}, late=True))] == [[]]


def test_after_going_back_swings_are_looked_for_anew():
    rule = Oscillation()
    assert told(rule, swings(2000))
    rule.set_state(None)
    rule.happened(restored(500), RunView())
    assert told(rule, swings(2000), first=500)


def test_swings_that_end_in_what_no_logarithm_has_are_not_called_over():
    rule = Oscillation()
    assert told(rule, swings(2000))
    (ended,) = told(rule, [{"loss": math.nan}] * 200, first=2000)
    assert (gave_up(ended), recovered(ended)) == (True, False)


def test_a_process_that_begins_from_nothing_is_no_recovery_of_the_one_before():
    rule = Overfit()
    worse = [{"loss": 2.0 * math.exp(-i / 100), "val_loss": 2.0 + 0.02 * max(0, i - 20)} for i in range(60)]
    assert told(rule, worse)
    rule.set_state(None)
    rule.happened(Happening(0, 0, 1, 0, SessionStart(pid=2, host="h", branch=1)), RunView())
    assert told(rule, worse[:20]) == []


@pytest.mark.parametrize("success", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_chance_alone_collapses_no_reward(success):
    rng = random.Random(4)
    assert told(RewardCollapse(), [{"reward": float(rng.random() < success)} for _ in range(4000)], RunView(kind="rl")) == []


def test_a_reward_that_is_logged_as_a_moving_average_is_not_called_collapsed():
    rng, x, points = random.Random(1), 0.0, []
    for i in range(4000):
        x = 0.9 * x + rng.gauss(0.0, 1.0)
        points.append({"rollout/ep_rew_mean": x + 10 * (1 - math.exp(-i / 300))})
    assert told(RewardCollapse(), points, RunView(kind="rl")) == []


def test_a_collapsed_reward_proposes_to_go_back_to_where_it_was_well():
    points = [{"reward": -10 * math.exp(-i / 100) if i < 500 else -10.0} for i in range(700)]
    (found,) = told(RewardCollapse(), points, RunView(kind="rl", scales={"lr": 1.0}))
    (action,) = found.actions
    assert isinstance(action, Rollback)
    assert 400 <= action.before < 500
    assert action.also_scale == {"lr": 0.5}


def test_a_state_is_a_copy_of_its_own():
    points = [{"kl": 0.01 * math.exp(math.sin(i))} for i in range(150)]
    rule, view = KlRunaway(), RunView(kind="rl")
    told(rule, points, view)
    state = rule.state()
    first = told(rule, [{"kl": 1.0}] * 40, view, first=150)
    rule.set_state(state)
    rule.happened(restored(150), view)
    assert [f.text for f in told(rule, [{"kl": 1.0}] * 40, view, first=150)] == [f.text for f in first] != []


@pytest.mark.parametrize(("loss", "count"), [(math.log(2), 2), (math.log(10), 10), (6.9085, 1000), (10.8249, 50257), (2.2, 9), (0.3, None),
                                             (3.203, None), (2.5, None), (-1.0, None), (20.0, None)])  # fmt: skip
def test_a_guess_among_so_many_classes(loss, count):
    assert classes(loss, 0.002) == count


def test_a_straight_line_is_straight():
    assert straightness([3.0 - 0.1 * i for i in range(32)]) == pytest.approx(1.0)
    assert straightness([(-1.0) ** i for i in range(32)]) < 0.05
    assert straightness([1.0] * 32) == 0.0


def test_another_rate_begins_the_straight_line_anew():
    rule = TooSlow()
    points = [{"loss": 4 * math.exp(-i / 10_000)} for i in range(1000)]
    told(rule, points)
    rule.happened(rate_changed(1000), RunView())
    assert told(rule, points, first=1000) == []


def plateaus(loss, n):
    """The steps at which ``plateau`` speaks of such a course."""
    rule, view, rng = Plateau(), RunView(scales={"lr": 1.0}, in_session=True, state="running"), random.Random(5)
    return [
        step for step in range(n)
        if rule.observe(Sample(step, 0, float(step), {"loss": loss(step) + rng.gauss(0, 0.02)}), view) is not None
    ]  # fmt: skip


def test_a_long_run_that_falls_slowly_stands_still_only_while_it_is_young():
    assert [step for step in plateaus(lambda step: 2.0 + math.exp(-step / 20_000), 40_000) if step > 2_000] == []


def test_a_standstill_is_said_again_once_it_has_fallen_on_and_stands_for_as_long_again():
    first, second = plateaus(lambda step: 3.0 if step < 4_000 else 2.0 + math.exp(-(step - 4_000) / 200), 40_000)
    assert first < 2_000
    assert second > 8_000


@pytest.mark.parametrize(("resumed", "times"), [(None, 2), ((0, 2_000), 1)])
def test_a_standstill_of_a_process_that_began_anew_is_said_again_and_that_of_one_that_goes_on_is_not(resumed, times):
    rule, view, rng, found = Plateau(), RunView(scales={"lr": 1.0}, in_session=True, state="running"), random.Random(5), []
    for branch in range(2):
        found += [
            finding for step in range(2_000)
            if (finding := rule.observe(Sample(step, branch, float(step), {"loss": 2.0 + branch + rng.gauss(0, 0.02)}), view)) is not None
        ]  # fmt: skip
        rule.set_state(None)
        rule.happened(Happening(0, 0, 1, 0, SessionStart(pid=2, host="h", branch=1, resumed=resumed)), view)
    assert len(found) == times
    assert len({finding.key for finding in found}) == times


def test_a_spike_that_was_gone_back_from_is_over_with_the_next_point():
    rule = Spike()
    (spike,) = told(rule, [{"loss": 2.0 + 0.01 * (i % 7)} for i in range(200)] + [{"loss": 8.0}] * 5)
    rule.happened(restored(190), RunView())
    (over,) = told(rule, [{"loss": 2.0}, {"loss": 2.01}], first=191)
    assert (over.key, recovered(over)) == (spike.key, True)
    assert "left behind by going back" in over.text


def test_what_stands_where_it_began_and_then_cannot_be_judged_has_not_recovered():
    rule = StuckAtStart()
    (stuck,) = told(rule, [{"loss": math.log(100) + 0.001 * (i % 5)} for i in range(480)])
    (ended,) = told(rule, [{"loss": -1.0}] * 16, first=480)
    assert (ended.key, gave_up(ended)) == (stuck.key, True)


def test_a_rise_that_was_found_in_the_past_is_proposed_when_it_is_worse_in_the_present():
    rising = [{"loss": (2.0 + 0.02 * (i % 7)) * (1.0 if i < 300 else 1.01 ** (i - 300))} for i in range(700)]
    rule, view = Divergence(), RunView(scales={"lr": 1.0})
    view.late = True
    found = told(rule, rising[:450], view)
    assert found
    assert not any(f.actions for f in found)
    view.late = False
    assert [bool(f.actions) for f in told(rule, rising[450:], view, first=450)][:2] == [True, False], "and once"


def test_a_rise_of_one_witness_is_over_when_half_of_what_was_said_is_gone():
    """Not only when the loss is near its best: what is asked for meanwhile would throw away ever more steps."""

    def level(i: int) -> float:
        return 4.0 if 300 <= i < 400 else 2.4 if i >= 400 else 2.0

    losses = [{"loss": level(i) * (1.0 + 0.01 * (i % 7))} for i in range(700)]
    rule = Divergence()
    said, *more, over = told(rule, losses, RunView(scales={"lr": 1.0}))
    assert said.actions
    assert recovered(over)
    assert over.key == said.key
    assert "at 1.2 × its best" in over.text
    assert not any(recovered(f) for f in more)
