"""Rules by the step and by the clock."""

import datetime
import textwrap

import pytest

from sitter.config import parse
from sitter.control.ruleset.build import build
from sitter.errors import ConfigError
from sitter.model import Afterwards, Finding
from sitter.rules.engine import Engine
from sitter.rules.own.schedule import Moment, Scheduled
from sitter.rules.view import RunView, Sample
from sitter.testing.manual_clock import ManualClock
from sitter_wire.commands import SetKnob, TakeCheckpoint
from sitter_wire.events import Restored
from sitter_wire.records import Happening


class Told:
    """A rule told a point a step, and seconds."""

    def __init__(self, text: str, wall: float = 1_800_000_000.0) -> None:
        rules, _ = build(parse("[rules.mine]\n" + textwrap.dedent(text), "sitter.toml"), "sitter.toml")
        (self.rule,) = [rule for rule in rules if isinstance(rule, Scheduled)]
        self.clock = ManualClock(wall=wall)
        self.view = RunView(clock=self.clock, in_session=True, state="running")
        self.engine = Engine([self.rule], self.view)

    def steps(self, first: int, last: int, branch: int = 0) -> list[Finding]:
        return [f for step in range(first, last) for f in self.engine.observe(Sample(step, branch, step / 10, {"loss": 2.0}))]

    def seconds(self, n: int, every: float = 1.0) -> list[Finding]:
        found = []
        for _ in range(n):
            self.clock.advance(every)
            found += self.engine.tick(self.clock.monotonic())
        return found


def test_every_so_many_steps() -> None:
    told = Told('every = "1,000 steps"\ndo = "checkpoint"')
    found = told.steps(500, 3500)
    assert [f.step for f in found] == [1000, 2000, 3000]
    assert found[0].actions == [TakeCheckpoint(why="step 1,000: 1,000 steps have passed")]
    assert len({f.key for f in found}) == 3
    told.engine.happened(Happening(0, 3499, 0, 0, Restored(branch=1, step=2500, from_branch=0, left=3499, source="snapshot")))
    assert [f.step for f in told.steps(2501, 3500, 1)] == [3000]


def test_every_so_many_minutes_of_a_training_that_runs() -> None:
    told = Told('every = "30m"\ndo = "notify"\ntext = "still here"')
    found = told.seconds(7300)
    assert [f.text for f in found] == ["still here"] * 4
    told.view.paused = True
    assert told.seconds(7300) == []


def test_a_step_of_a_run_that_logs_seldom() -> None:
    told = Told('at = 12_250\ndo = "checkpoint"')
    found = [f for step in range(0, 20_000, 500) for f in told.engine.observe(Sample(step, 0, step / 10, {"loss": 2.0}))]
    assert [(f.step, f.at) for f in found] == [(11_500, 12_250)]


def test_a_step_at_which_a_branch_begins() -> None:
    told = Told('at = 2500\nbranch = 1\ndo = "lr=0.5x"')
    assert told.steps(2000, 2600) == []
    told.engine.happened(Happening(0, 2600, 0, 0, Restored(branch=1, step=2500, from_branch=0, left=2600, source="snapshot")))
    assert [(f.step, f.at) for f in told.steps(2501, 2600, 1)] == [(2501, 2500)]


def test_a_time_of_the_day_and_of_the_week() -> None:
    noon = datetime.datetime(2026, 11, 20, 12, 0).astimezone()  # a Friday
    told = Told('at = "Sat 09:00"\ndo = "lr=0.5x"', wall=noon.timestamp())
    found = told.seconds(8 * 24 * 60, 60.0)
    assert len(found) == 2  # tomorrow, and a week later
    assert found[0].actions == [SetKnob(knob="lr", op="scale", amount=0.5)]
    daily = Told('at = "09:00"', wall=noon.timestamp()).seconds(8 * 24 * 60, 60.0)
    assert len(daily) == 8


def test_a_time_that_passed_while_the_host_slept_is_let_go_where_it_is_long_ago() -> None:
    noon = datetime.datetime(2026, 11, 20, 12, 0).astimezone().timestamp()
    told = Told('at = "13:00"', wall=noon)
    told.seconds(1)
    assert len(told.seconds(1, 3700.0)) == 1  # two minutes late
    told = Told('at = "13:00"', wall=noon)
    told.seconds(1)
    assert told.seconds(1, 5 * 3600.0) == []


def test_a_clock_that_was_a_day_ahead_for_a_while_takes_no_day_away() -> None:
    noon = datetime.datetime(2026, 11, 20, 12, 0).astimezone().timestamp()  # a Friday
    for text in ('at = "Fri 18:00"', 'at = "18:00"'):
        told = Told(text, wall=noon)
        assert told.seconds(60) == []
        told.clock._wall += 86_400.0
        assert told.seconds(60) == []  # eighteen hours late
        told.clock._wall -= 86_400.0
        assert len(told.seconds(7 * 60, 60.0)) == 1
        told.clock._wall -= 1800.0
        assert told.seconds(60, 60.0) == [], "half an hour back: it has been"


def test_the_next_time_is_in_the_future_whatever_the_day() -> None:
    moment = Moment(2, 30, weekday=6)
    wall = 1_800_000_000.0
    for _ in range(60):
        after = moment.after(wall)
        at = datetime.datetime.fromtimestamp(after).astimezone()
        assert after > wall
        assert (at.weekday(), at.hour, at.minute) == (6, 2, 30)
        wall = after


def test_at_a_step_it_is_sent_before_and_meant_for_that_step() -> None:
    told = Told('at = 1000\ndo = "lr=0.5x"')
    (found,) = told.steps(0, 1200)
    assert (found.step, found.at) == (800, 1000)
    told = Told('at = "1,000"\ndo = "lr=0.5x"')
    told.view.steps_per_s = 50.0
    (found,) = told.steps(0, 2000)
    assert (found.step, found.at) == (500, 1000)


@pytest.mark.parametrize("when", ["at = 1000", 'every = "900 steps"'])
def test_what_follows_a_change_of_the_rate_goes_with_it(when: str) -> None:
    (found, *_) = Told(f'{when}\ndo = "lr=0.5x"\nwarmup = "200 steps"\nback_after = "2,000 steps"').steps(0, 1200)
    assert found.afterwards == Afterwards(warmup=200, back_after=2000)
    (found, *_) = Told(f'{when}\ndo = "lr=0.5x"').steps(0, 1200)
    assert found.afterwards is None


def test_the_first_branch_begins_at_its_first_logged_step_too() -> None:
    told = Told('at = 0\nbranch = 0\ndo = "lr=0.5x"')
    assert [f.step for f in told.steps(1, 400)] == [1]
    assert Told('at = 0\ndo = "lr=0.5x"').steps(1, 400) == [], "without a branch it is past"


def test_a_step_that_is_past_is_past_and_another_branch_is_another() -> None:
    assert Told('at = 100\ndo = "lr=0.5x"').steps(101, 300) == []
    told = Told('at = 100\nbranch = 1\ndo = "lr=0.5x"')
    assert told.steps(0, 200) == []
    told.engine.happened(Happening(0, 199, 0, 0, Restored(branch=1, step=50, from_branch=0, left=199, source="snapshot")))
    assert [f.at for f in told.steps(51, 200, 1)] == [100]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('every = "often"', "(line 2): every = 'often': expected steps or a length of time"),
        ('every = " "', "every = ' ': expected steps or a length of time"),
        ('every = "0 steps"', "expected steps or a length of time"),
        ('every = "100"', "every = '100': expected steps or a length of time"),
        ("at = -5", "at = -5: expected a step"),
        ('at = "Saturn 09:00"', "at = 'Saturn 09:00': expected a step"),
        ('at = "Sut 09:00"', "at = 'Sut 09:00': expected a step such as 12000, or a time"),
        ('at = "25:00"', "expected a step such as 12000, or a time"),
        ('at = 100\nevery = "5 steps"', "expected one of `when`, `every` and `at`"),
        ('every = "5 steps"\nbranch = 1', "branch: expected only beside a step"),
        ('at = 100\ndo = "rolback"', "(line 3): do = 'rolback'"),
        ('at = 100\nfro = "x"', "has no parameter 'fro' (line 3)"),
        ('at = 100\ndo = "lr=0.5x"\nwarmup = "200"', "(line 4): warmup = '200': expected steps"),
        ('at = 100\nwarmup = "200 steps"', "(line 3): warmup: expected beside a change of a knob"),
        ('every = "1h"\ndo = "checkpoint"\nback_after = "200 steps"', "(line 4): back_after: expected beside a change of a knob"),
        ('when = "loss > 1"\nat = 100', "(line 3): expected one of `when`, `every` and `at`"),
    ],
)
def test_a_wrong_one_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Told(text)
    assert says in str(refused.value)
