"""The rules on a story: as they would have run live, with the clock of the data."""

import math
import random
from collections.abc import Iterator

import pytest

from sitter.config import parse
from sitter.model import GpuNow, HostNow
from sitter.replay.player import Line, Player
from sitter.replay.record import Record
from sitter.replay.story import Began, Item, Machine, Story
from sitter.rules.view import Sample


def losses(n: int, *, bad: dict[int, float] | None = None, seconds: float = 1.0) -> Iterator[Item]:
    rng = random.Random(3)
    for step in range(n):
        values = {"loss": (bad or {}).get(step, 2.0 + rng.gauss(0, 0.05))}
        yield Sample(step=step, branch=0, time=step * seconds, values=values)


def play(items: Iterator[Item], text: str = "", *, timed: bool = False) -> list[Line]:
    return list(Player(parse(text, "x"), "x").play(Story(name="s", items=items, timed=timed)))


def test_a_nan_is_caught_at_its_step_and_would_have_been_acted_on_unasked() -> None:
    lines = play(losses(300, bad={200: math.nan}))
    first = next(line for line in lines if line.severity == "critical")
    assert (first.step, first.onset, first.rule, first.mode, first.acts) == (200, 200, "guard", "act", True)
    assert first.action == "rollback"
    assert math.isnan(first.evidence["value"])


def test_what_is_told_is_what_the_rules_may_do() -> None:
    bad = {200: math.nan}
    (watching, *_) = [line for line in play(losses(300, bad=bad), 'mode = "watch"') if line.severity == "critical"]
    assert (watching.mode, watching.acts) == ("watch", False)
    (asking, *_) = [line for line in play(losses(300, bad=bad), '[rules.guard]\nmode = "ask"') if line.severity == "critical"]
    assert (asking.mode, asking.acts) == ("ask", False)
    assert [line for line in play(losses(300, bad=bad), '[rules.guard]\nmode = "off"') if line.rule == "guard"] == []
    (later, *_) = play(losses(300, bad=bad), '[rules.guard]\nmode = "act"\ndelay = "60s"')
    assert later.acts


def test_the_budget_is_counted_by_the_clock_of_the_data() -> None:
    rule = '[rules.mine]\nwhen = "loss > 90"\ndo = "checkpoint"\nmode = "act"\nlimit = "2 per hour"\n[rules.guard]\nmode = "off"'
    bad = dict.fromkeys(range(100, 1000, 100), 99.0)

    def acted(seconds: float) -> int:
        return sum(line.acts for line in play(losses(1000, bad=bad, seconds=seconds), rule))

    assert acted(seconds=1.0) == 2  # nine in a quarter of an hour
    assert acted(seconds=60.0) == 9


def test_seconds_tick_where_the_data_have_times_and_the_machine_is_told() -> None:
    def story() -> Iterator[Item]:
        yield Began(0.0)
        for step in range(200):
            if step == 50:
                hot = GpuNow(index=0, uuid="a", name="H100", temp=99.0, used_by_run=True)
                yield Machine(time=step * 1.0, host=HostNow(), gpus=[hot])
            yield Sample(step=step, branch=0, time=step * 1.0, values={"loss": 2.0})

    text = '[rules.mine]\nwhen = "gpu.temp > 90"\nfor = "20s"'
    (line,) = [line for line in play(story(), text, timed=True) if line.rule == "mine"]
    assert 68 <= line.step <= 72
    assert [line for line in play(story(), text, timed=False) if line.rule == "mine"] == []


def test_a_long_silence_costs_no_more_than_a_short_one() -> None:
    def story() -> Iterator[Item]:
        yield Began(0.0)
        yield from losses(100)
        yield Sample(step=100, branch=0, time=1e9, values={"loss": 2.0})

    player = Player(parse("", "x"), "x")
    list(player.play(Story(name="s", items=story(), timed=True)))
    assert player.clock.now == 1e9


def test_two_tellings_are_the_same() -> None:
    bad = {200: 90.0, 201: 95.0, 300: math.nan}
    assert repr(play(losses(600, bad=bad))) == repr(play(losses(600, bad=bad)))


@pytest.mark.parametrize("n", [1, 2, 5000])
def test_a_record_keeps_a_curve_and_the_sums(n: int) -> None:
    record = Record()
    story = Story(name="s", items=losses(n, bad={3000: math.nan}), timed=False)
    record.lines = list(Player(parse("", "x"), "x").play(record.heard(story)))
    assert (record.samples, record.first, record.last) == (n, 0, n - 1)
    (curve,) = record.curves().curves
    means = [m for m in curve.mean if math.isfinite(m)]
    assert means
    assert all(1.5 < m < 2.5 for m in means)
    assert len(curve.lost) == (n > 3000)
    assert record.counts()["acts"] == (n > 3000)
