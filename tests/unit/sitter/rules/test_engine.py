import math
import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest

from sitter.model import Finding
from sitter.rules.base import Rule, RuleParams, gave_up, recovered
from sitter.rules.engine import COPIES, TIMED, Engine
from sitter.rules.guard import SETTLE_POINTS, Guard
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Outcome, Rollback, SetKnob
from sitter_wire.events import AnyEvent, CheckpointWritten, Done, KnobChanged, Restored, SessionStart, SnapshotTaken
from sitter_wire.records import Happening

NAN = float("nan")


class Run:
    """A run told to the real engine with the real guard: a loss around 2 with 5 % noise, one point a step."""

    def __init__(self, *rules: Rule, **facts: object) -> None:
        self.view = RunView(in_session=True, state="running", scales={"lr": 1.0})
        for name, value in facts.items():
            setattr(self.view, name, value)
        self.guard = Guard()
        self.engine = Engine([*rules, self.guard], self.view)
        self.rng = random.Random(5)
        self.step, self.branch, self.lr = 0, 0, 1e-3

    def point(self, factor: float = 1.0, *, late: bool = False, norm: float = 1.0, **more: float) -> list[Finding]:
        values = {"loss": 2.0 * factor * 1.05 ** self.rng.gauss(0, 1), "grad_norm": norm * 1.2 ** self.rng.gauss(0, 1)}
        if self.lr:
            values |= {"lr": self.lr, "lr_scheduled": self.lr}
        values |= more
        found = self.engine.observe(Sample(self.step, self.branch, self.step * 0.1, values), late=late)
        self.step += 1
        return found

    def points(self, n: int, factor: float = 1.0, **more: float) -> list[Finding]:
        return [f for _ in range(n) for f in self.point(factor, **more)]

    def event(self, event: AnyEvent) -> None:
        self.engine.happened(Happening(0, self.step, self.branch, int(self.step * 1e8), event))

    def snapshot(self) -> int:
        self.event(SnapshotTaken(slot=0, branch=self.branch, step=self.step, bytes=1, seconds=0.0))
        return self.step

    def scale(self, factor: float, by: str = "rule:guard") -> None:
        self.event(KnobChanged(knob="lr", old=1e-3, new=1e-3 * factor, scale=factor, by=by))

    def restore(self, to: int, branch: int | None = None) -> None:
        left, was = self.step, self.branch
        self.branch = was + 1 if branch is None else branch
        self.step = to
        self.event(Restored(branch=self.branch, step=to, from_branch=was, left=left, source="snapshot"))

    def refuse(self, *, finite: bool = False) -> None:
        self.engine.restoring(False)
        outcome = Outcome(id="c", status="rejected", step=self.step, branch=self.branch, text="", detail={"finite": True} if finite else {})
        self.event(Done(outcome=outcome))


def rollbacks(findings: Iterable[Finding]) -> list[Rollback]:
    return [a for f in findings for a in f.actions if isinstance(a, Rollback)]


def test_a_blow_up_leads_to_one_rollback_before_the_last_healthy_point() -> None:
    run = Run()
    run.points(100)
    found = run.points(10, 30.0)
    (action,) = rollbacks(found)
    assert action.before == 97  # 99 was healthy
    assert not action.unless_finite
    assert found[0].onset == 100
    assert found[0].suspicious
    assert run.engine.open_trip


@pytest.mark.parametrize("beside", [{}, {"val_loss": math.nan}])
def test_the_same_values_twice_at_a_step_are_one_point(beside: dict[str, float]) -> None:
    rng, engine, found = random.Random(3), Engine([Guard()], RunView(scales={"lr": 1.0}, in_session=True, state="running")), []
    for step in range(300):
        loss = 2.0 * 1.05 ** rng.gauss(0, 1) * (1.9 if step == 200 else 1.0)  # one bad batch
        for _ in range(2):
            found += engine.observe(Sample(step, 0, step * 0.1, {"loss": loss, **{name: float(str(x)) for name, x in beside.items()}}))
    assert not found


def test_going_back_brings_back_what_was_usual_there_and_says_recovered_with_the_steps_lost() -> None:
    run = Run()
    run.points(100)
    at = run.snapshot()
    run.points(20)
    assert rollbacks(run.points(3, 30.0))
    run.engine.restoring(True)
    assert run.points(5, 30.0) == []
    run.restore(at)
    found = run.points(10)
    assert [f.evidence["steps_lost"] for f in found if recovered(f)] == [28]
    assert not run.engine.open_trip


def test_records_of_the_old_branch_that_arrive_later_trip_nothing() -> None:
    run = Run()
    run.points(60)
    at = run.snapshot()
    run.points(10)
    run.points(5, 30.0)
    run.engine.restoring(True)
    run.restore(at)
    old = [Sample(61 + i, 0, 9.0, {"loss": NAN, "grad_norm": NAN}) for i in range(5)]
    assert [run.engine.observe(sample) for sample in old] == [[]] * 5
    assert run.engine.clear() == (1, at)


def test_a_refused_restore_lets_the_trip_act_again_later_and_later() -> None:
    run = Run()
    run.points(60)
    acted = []
    for i in range(60):
        found = rollbacks(run.point(30.0))
        if found:
            acted.append(i)
            run.engine.restoring(True)
            run.refuse()
    assert len(acted) >= 3
    gaps = [b - a for a, b in pairwise(acted)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0]


def test_a_veto_holds_since_the_key_stays() -> None:
    run = Run()
    run.points(60)
    keys = []
    for _ in range(100):
        for finding in run.point(30.0):
            if finding.actions:
                keys.append(finding.key)
                run.refuse()
    assert len(keys) >= 3
    assert len(set(keys)) == 1


def test_a_trip_that_nothing_came_of_asks_again_since_a_budget_comes_back() -> None:
    run = Run()
    run.points(60)
    acted = [i for i in range(1000) if rollbacks(run.point(loss=NAN))]
    assert acted[0] == 0
    assert 3 <= len(acted) <= 8


def test_a_value_is_at_fault_and_not_the_model() -> None:
    run = Run()
    run.points(60)
    (action,) = rollbacks(run.point(loss=NAN))
    assert action.unless_finite
    run.refuse(finite=True)
    found = run.points(5)
    assert any("at fault" in f.text and recovered(f) for f in found)
    assert not run.engine.open_trip


def test_a_loss_that_is_logged_as_nan_for_ever_is_asked_about_less_and_less() -> None:
    run = Run()
    run.points(60)
    asked = 0
    for _ in range(500):
        if rollbacks(run.point(loss=NAN)):
            asked += 1
            run.refuse(finite=True)
    assert 2 <= asked <= 8


def test_inf_from_a_skipped_step_asks_the_agent_first() -> None:
    run = Run()
    run.points(60)
    (action,) = rollbacks(run.point(grad_norm=float("inf")))
    assert action.unless_finite


def test_nan_with_a_gradient_far_off_does_not_ask() -> None:
    run = Run()
    run.points(60)
    (action,) = rollbacks(run.point(norm=500.0, loss=NAN))
    assert not action.unless_finite


def test_bad_again_on_the_first_batch_is_the_batches_fault_and_waits_for_their_end() -> None:
    run = Run()
    run.points(80)
    at = run.snapshot()
    run.points(4)
    assert rollbacks(run.point(30.0))
    run.engine.restoring(True)
    run.restore(at)
    found = run.points(6, 30.0)
    assert rollbacks(found) == []
    assert "the batches are at fault" in found[0].text
    (action,) = rollbacks(run.points(4))
    assert action.before == at
    assert action.also_scale == {}


def cut(run: Run) -> int:
    """Trouble, and trouble again eight steps after going back; returns the step that was gone back to, with the rate cut."""
    run.points(80)
    at = run.snapshot()
    run.points(4)
    run.points(1, 30.0)
    run.engine.restoring(True)
    run.restore(at)
    run.points(8)
    (action,) = rollbacks(run.points(1, 30.0))
    assert action.also_scale == {"lr": pytest.approx(0.3)}
    run.engine.restoring(True)
    run.restore(at)
    run.scale(0.3)
    return at


BACK = SetKnob(knob="lr", op="scale", amount=pytest.approx(1 / 0.3))


def test_trouble_again_soon_cuts_the_rate_and_gives_it_back_after_healthy_steps() -> None:
    run = Run()
    cut(run)
    assert not [f for f in run.points(19) if f.actions]
    (found,) = [f for f in run.points(5) if f.actions]
    assert found.actions == [BACK]
    assert not run.guard.spends(found)
    run.scale(1 / 0.3)
    assert not [f for f in run.points(100) if f.actions]


def test_the_rate_is_asked_back_once_however_long_the_answer_takes() -> None:
    """Asked twice it would be done twice."""
    run = Run()
    cut(run)
    assert len([f for f in run.points(300) if f.actions]) == 1


def test_the_rate_is_not_asked_back_in_the_past() -> None:
    run = Run()
    cut(run)
    assert not [f for _ in range(60) for f in run.point(late=True) if f.actions]
    assert [f.actions for f in run.points(3) if f.actions] == [[BACK]]


def test_a_rate_that_could_not_be_given_back_is_asked_for_again() -> None:
    run = Run()
    cut(run)
    (first,) = [f for f in run.points(25) if f.actions]
    run.guard.refused(run.view)
    (second,) = [f for f in run.points(60) if f.actions]
    assert (second.actions, second.key) == (first.actions, first.key)


def test_what_the_operator_approved_counts_as_given_back_and_his_own_changes_do_not() -> None:
    run = Run()
    cut(run)
    run.points(25)
    run.scale(0.5, by="operator")
    assert run.guard.memory.held == pytest.approx(0.3)
    run.scale(1 / 0.3, by="operator")
    assert run.guard.memory.held == 1.0


def test_a_state_that_holds_the_cut_rate_is_put_right_when_it_is_restored() -> None:
    run = Run()
    cut(run)
    run.points(8)
    cut_at = run.snapshot()
    run.points(30)
    run.scale(1 / 0.3)
    run.points(10)
    run.restore(cut_at)  # the operator's own
    assert [a for f in run.points(40) for a in f.actions] == [BACK]


def test_a_scale_that_was_refused_is_asked_for_by_itself() -> None:
    run = Run()
    run.points(80)
    at = run.snapshot()
    run.points(6)
    run.lr = 0.1
    run.points(3)
    assert rollbacks(run.points(2, 30.0))
    run.engine.restoring(True)
    run.restore(at)  # and no change of the rate
    run.guard.refused(run.view)
    assert [a for f in run.points(60) for a in f.actions] == [SetKnob(knob="lr", op="scale", amount=pytest.approx(0.01))]


def test_a_rate_times_100_is_divided_out_and_given_back_when_it_is_over() -> None:
    run = Run()
    run.points(80)
    at = run.snapshot()
    run.points(6)
    run.lr = 0.1
    run.points(3)
    (action,) = rollbacks(run.points(2, 30.0))
    assert action.also_scale == {"lr": pytest.approx(0.01)}
    assert action.before is not None
    assert action.before < 86
    run.engine.restoring(True)
    run.restore(at)
    run.scale(0.01)
    assert not [f for f in run.points(60) if f.actions], "as long as it lasts"
    run.lr = 1e-3
    given = [a for f in run.points(3) for a in f.actions]
    assert given == [SetKnob(knob="lr", op="scale", amount=pytest.approx(100.0))]


def bug_in_a_schedule(scheduled: Callable[[int], float], last: int, back_to: int) -> Run:
    """The rate × 100 from step ``last`` on, under a schedule; ends after going back to ``back_to``, with the bug divided out."""
    run, at = Run(), 0
    while run.step < last:
        at = run.snapshot() if run.step == back_to else at
        run.lr = scheduled(run.step)
        run.point()
    run.lr = 100.0 * scheduled(run.step)
    run.points(3)
    (action,) = rollbacks(run.points(2, 30.0))
    run.engine.restoring(True)
    run.restore(at)
    run.scale(action.also_scale["lr"])
    return run


def test_far_back_in_a_decay_the_rate_that_was_usual_there_is_no_bug() -> None:
    def decay(step: int) -> float:
        return 1e-3 * 0.98**step

    run = bug_in_a_schedule(decay, last=160, back_to=40)  # where the rate was 11 × what it was before the bug
    assert run.step == 40
    run.lr = decay(40)
    assert [a for f in run.points(3) for a in f.actions] == [SetKnob(knob="lr", op="scale", amount=pytest.approx(100.0, rel=0.05))]


def test_a_bug_ends_also_where_the_warm_up_has_gone_on_meanwhile() -> None:
    def warm_up(step: int) -> float:
        return 1e-5 * (step + 1)

    run = bug_in_a_schedule(warm_up, last=60, back_to=20)
    while run.step < 200:  # past three times the rate before the bug, let alone the one at step 20
        run.lr = 100.0 * warm_up(run.step)
        assert not [f for f in run.point() if f.actions], "as long as it lasts"
    run.lr = warm_up(run.step)
    assert [a for f in run.points(3) for a in f.actions] == [SetKnob(knob="lr", op="scale", amount=pytest.approx(100.0, rel=0.05))]


@pytest.mark.parametrize(
    ("title", "rates"),
    [
        ("warm-up, far apart in the log", [1e-6, 1e-4, 2e-4, 3e-4]),
        ("warm-up, step by step", [1e-6 * (i + 1) for i in range(100)]),
        ("warm restart", [1e-3 * (1 - i / 101) for i in range(100)] + [1e-3] * 3),
        ("cyclic", [1e-3 if (i // 10) % 2 else 1e-4 for i in range(95)]),
        ("step decay", [1e-3] * 80 + [1e-4] * 10),
    ],
)
def test_a_schedule_is_no_bug(title: str, rates: list[float]) -> None:
    run = Run()
    run.lr = 0.0  # not logged
    run.points(max(0, 110 - len(rates)))
    for run.lr in rates:
        run.point()
    (action,) = rollbacks(run.points(2, loss=NAN))
    assert action.also_scale == {}, title


def test_after_a_warm_restart_a_higher_loss_is_seen_and_nothing_is_done() -> None:
    run = Run()
    run.points(3, 3.0)
    for i in range(200):
        run.lr = 1e-3 * (1 - (i % 100) / 101)
        run.point()
    run.lr = 1e-3
    run.points(2)
    found = run.points(10, 1.9)
    assert found
    assert not rollbacks(found)
    assert any("the schedule has just raised the rate" in f.text for f in found)


def test_what_nobody_answers_is_taken_for_usual_in_the_end() -> None:
    run = Run()
    run.points(60)
    found = run.points(SETTLE_POINTS + 60, 3.0)
    assert [f for f in found if gave_up(f)]
    assert not run.engine.open_trip
    assert not [f for f in run.points(300, 3.0) if f.actions]


def test_what_heals_by_itself_says_so() -> None:
    run = Run()
    run.points(60)
    assert rollbacks(run.points(2, 30.0))
    (found,) = [f for f in run.points(5) if recovered(f)]
    assert "by itself: nothing done" in found.text


# -- the past ------------------------------------------------------------------------------------------------------------


def test_the_past_proposes_nothing_and_what_still_stands_acts_at_its_end() -> None:
    run = Run()
    for _ in range(60):
        run.point(late=True)
    found = [f for _ in range(3) for f in run.point(30.0, late=True)]
    assert found
    assert not [f for f in found if f.actions]
    assert all(f.evidence["late"] == 1 for f in found)
    assert rollbacks(run.engine.catch_up_ended())


def test_what_still_stands_acts_with_the_first_point_of_the_present() -> None:
    run = Run()
    for factor in [1.0] * 60 + [30.0] * 3:
        run.point(factor, late=True)
    assert len(rollbacks(run.point(30.0))) == 1
    assert rollbacks(run.point(30.0)) == []


def test_what_was_over_before_the_end_of_the_past_does_not_act() -> None:
    run = Run()
    for factor in [1.0] * 60 + [30.0] * 3 + [1.0] * 10:
        run.point(factor, late=True)
    assert run.engine.catch_up_ended() == []


# -- what is healthy -----------------------------------------------------------------------------------------------------


def test_clear_is_the_last_logged_step_before_the_newest_three() -> None:
    run = Run()
    run.points(3)
    assert run.engine.clear() is None
    run.points(1)
    assert run.engine.clear() == (0, 0)
    run.points(96)
    assert run.engine.clear() == (0, 96)


def test_suspicion_stops_the_clearing_and_three_clean_points_let_it_go_on() -> None:
    run = Run()
    run.points(100)
    run.point(1.5)
    assert run.engine.clear() == (0, 96)
    run.points(3)
    assert run.engine.clear() == (0, 96)
    run.points(1)
    assert run.engine.clear() == (0, 101)


def test_going_back_to_what_was_not_clear_makes_it_no_clearer() -> None:
    run = Run()
    run.points(100)
    run.restore(99)
    assert run.engine.clear() == (0, 96)
    run.points(4)
    assert run.engine.clear() == (1, 99)


def test_points_without_a_loss_clear_nothing_where_there_is_a_loss() -> None:
    run = Run()
    run.points(20)
    before = run.engine.clear()
    for i in range(20, 40):
        run.engine.observe(Sample(i, 0, i * 0.1, {"lr": 1e-3, "step_time": 0.1, "grad_norm": 1.0}))
    assert run.engine.clear() == before


def test_healthy_steps_count_on_the_present_line_only() -> None:
    run = Run()
    run.points(100)
    at = run.snapshot()
    run.points(50)
    assert run.engine.healthy_steps_since(0, 50) == 96
    run.restore(at)
    run.points(30)
    assert run.engine.healthy_steps_since(0, 120) == 0, "abandoned"
    assert run.engine.healthy_steps_since(0, 90) == 36
    assert run.engine.healthy_steps_since(1, 110) == 16
    assert run.engine.healthy_steps_since(7, 10) == 0


def test_trouble_after_a_checkpoint_starts_its_count_anew() -> None:
    run = Run()
    run.points(100)
    run.point(1.5)
    run.points(20)
    assert run.engine.healthy_steps_since(0, 50) == 17


# -- memory, sessions, rules that fail -------------------------------------------------------------------------------------


def test_copies_are_bounded_and_reach_far_back() -> None:
    run = Run()
    for _ in range(5 * COPIES):
        run.points(1)
        run.snapshot()
    steps = [step for _, step in run.engine._copies]
    assert len(steps) <= COPIES
    assert steps[0] == 1
    assert steps[-1] == 5 * COPIES


def test_the_memory_of_a_checkpoint_is_kept_with_it() -> None:
    run = Run()
    run.points(50)
    at = run.snapshot()
    run.event(CheckpointWritten(branch=0, step=at, path="c", bytes=1, sha256="", verified=True, cleared=True))
    for _ in range(5 * COPIES):
        run.points(1, 0.01)
        run.snapshot()
    run.restore(at)
    assert not [f for f in run.points(20) if f.actions], "a loss of 2 is usual there, though it was 0.02 when it was left"


def test_a_state_that_nobody_knows_is_begun_anew() -> None:
    run = Run()
    run.points(200, 0.01)
    run.restore(5)
    assert not [f for f in run.points(50) if f.actions]


def test_a_new_session_starts_anew_and_one_that_goes_on_remembers() -> None:
    run = Run()
    run.points(50)
    at = run.snapshot()
    run.points(50)
    run.branch, run.step = 1, at
    run.event(SessionStart(pid=1, host="h", branch=1, resumed=(0, at)))
    assert len(run.guard.memory.loss) == 40
    assert run.engine.clear() == (1, at)
    run.branch, run.step = 2, 0
    run.event(SessionStart(pid=2, host="h", branch=2))
    assert len(run.guard.memory.loss) == 0
    assert run.engine.clear() is None


class Steps(Rule):
    """Remembers steps.

    Times something, so that two of them can be told apart.
    """

    name, title, remembers = "steps", "steps", list

    class Params(RuleParams, frozen=True):
        """What."""

        times: int = 1
        """So many."""

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        self.memory.append(self.params.times * sample.step)
        return None


def test_going_back_gives_no_rule_the_memory_of_the_one_in_whose_place_it_came() -> None:
    run, stays, goes, comes = Run(), Guard(), Steps(), Steps(Steps.Params(times=100))
    run.engine.use([stays, goes])
    run.points(50)
    at = run.snapshot()
    run.event(CheckpointWritten(branch=0, step=at, path="c", bytes=1, sha256="", verified=True, cleared=True))
    assert goes.memory
    run.engine.use([stays, comes])
    run.points(1)
    run.restore(at)
    assert comes.memory == []
    assert len(stays.memory.loss) == 40, "and that of others is there still"


class Broken(Rule):
    """Raises.

    Always.
    """

    name = "broken"
    title = "broken"

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        raise ZeroDivisionError("by nature")


def test_a_rule_that_raises_is_switched_off_with_one_sentence_and_the_others_go_on() -> None:
    run = Run(Broken())
    found = run.points(60)
    said = "rule broken failed and is switched off until it is changed or the daemon starts again: ZeroDivisionError: by nature"
    assert [f.text for f in found] == [said]
    assert rollbacks(run.points(3, loss=NAN))
    assert run.engine.timings["guard"].calls == 63 // TIMED


class OfValLoss(Rule):
    """Counts.

    What it is asked.
    """

    name = "of_val_loss"
    title = "counts"
    signals = ("val_loss", "val_acc")

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        self.asked.append(sample.step)
        if len(self.asked) == 5:
            raise ZeroDivisionError("by nature")
        return None


def test_a_rule_is_asked_only_about_points_with_its_signals_and_no_more_once_it_is_switched_off() -> None:
    rule = OfValLoss()
    engine = Engine([rule, Guard()], RunView(in_session=True, state="running"))
    for i in range(200):
        engine.observe(Sample(i, 0, i * 0.1, {"loss": 2.0, "val_loss": 2.0} if i % 20 == 19 else {"loss": 2.0}))
        if i == 50:
            engine.observe(Sample(i, 0, i * 0.1, {"val_acc": 0.5}))
    assert rule.asked == [19, 39, 50, 59, 79]
    assert "of_val_loss" in engine.broken
    assert engine.clear() == (0, 196)


def test_what_a_rule_leaves_as_it_is_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*args: object) -> None:
        raise AssertionError("in vain")

    for method in ("observe", "tick", "happened", "standing", "refused"):
        monkeypatch.setattr(Rule, method, called)
    run = Run(Quiet())
    run.points(40)
    run.engine.tick(1.0)
    run.engine.restoring(False)
    run.engine.catch_up_ended()
    run.snapshot()
    assert not run.engine.broken


class Quiet(Rule):
    """Does nothing.

    At all.
    """

    name = "quiet"
    title = "quiet"


def test_it_says_what_it_watches_and_where_it_is_blind() -> None:
    run = Run()
    assert run.engine.blind() == "nothing logged yet"
    run.engine.observe(Sample(0, 0, 0.0, {"lr": 1e-3}))
    assert run.engine.blind() == "no loss signal"
    assert run.engine.watching() == []
    run.points(1)
    assert run.engine.blind() == ""
    assert run.engine.watching() == ["loss", "grad_norm"]
    assert Engine([], RunView()).blind() == "the guard is off"


def test_a_gan_is_watched_by_its_two_losses() -> None:
    engine = Engine([Guard()], RunView(kind="gan"))
    for i in range(20):
        engine.observe(Sample(i, 0, i * 0.1, {"g_loss": -1.0, "d_loss": 0.5, "val_loss": 1.0}))
    assert engine.watching() == ["d_loss", "g_loss"]
    assert engine.clear() == (0, 16)
