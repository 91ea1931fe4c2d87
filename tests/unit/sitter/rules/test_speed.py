"""The rules about speed: what another process, a pause, a knob or a gap in what is told means to them; and the parts they are made of."""

import datetime

import msgspec
import pytest

from sitter.model import HostNow
from sitter.rules.base import RECOVERED
from sitter.rules.data_bound import DataBound, advice
from sitter.rules.deadline import Deadline, moment
from sitter.rules.overhead import Overhead
from sitter.rules.slow_steps import SlowSteps
from sitter.rules.steps import StepRule, steps
from sitter.rules.throughput import Throughput
from sitter.rules.view import RunView, Sample
from sitter_wire.events import KnobChanged, LoopStart, Paused, SessionStart, SnapshotTaken
from sitter_wire.records import Happening


def told(rule, samples, view=None):
    """What it finds in them."""
    view = view or RunView(in_session=True, state="running")
    return [found for sample in samples if (found := rule.observe(sample, view)) is not None]


def event(of, at=0.0):
    return Happening(1, 0, 0, int(at * 1e9), of)


def later(samples, step, seconds):
    """The same, after others."""
    return [Sample(s.step + step, s.branch, s.time + seconds, s.values) for s in samples]


class Counting(StepRule):
    """How long its blocks are."""

    def __init__(self):
        super().__init__()
        self.blocks = []

    def judge(self, block, view):
        self.blocks.append(len(block))


@pytest.mark.parametrize(("seconds", "length"), [(0.1, 64), (4.0, 33), (7.0, 19), (60.0, 16)])
def test_a_block_is_64_steps_or_two_minutes_of_them(seconds, length):
    rule = Counting()
    told(rule, (Sample(i, 0, i * seconds, {"step_time": seconds}) for i in range(300)))
    assert set(rule.blocks) == {length}


def test_no_block_goes_over_a_pause():
    rule = Counting()
    samples = list(steps(lambda i, t: 0.1, 100))
    told(rule, samples[:40])
    rule.happened(event(Paused(paused=True)), RunView())
    told(rule, samples[40:])
    assert rule.blocks == []
    told(rule, samples[:4])
    assert rule.blocks == [64]


def test_steps_that_come_fast_are_a_sample():
    class Resting(Counting):
        rests = 2

    rule = Resting()
    told(rule, steps(lambda i, t: 0.01, 64 * 30))
    assert rule.blocks == [64] * 10


@pytest.mark.parametrize(
    ("share", "workers", "idle", "said"),
    [
        (0.71, 2, 8, "; 2 workers, 8 cores idle: try num_workers=8"),
        (0.71, 2, 3, "; 2 workers, 3 cores idle: try num_workers=5"),
        (0.3, 0, 1, "; no workers, 1 core idle: try num_workers=1"),
        (0.99, 1, None, "; 1 worker: try num_workers=16"),
        (0.5, 16, 20, "; 16 workers, 20 cores idle: so many workers should do; look at the storage, and at what a sample costs"),
        (0.5, 4, 0, "; no core is idle: make a sample cheaper (decode less, cache, smaller files), or give the run more cores"),
        (0.5, None, 6, "; 6 cores idle: try more workers in its loader (num_workers), or cheaper samples"),
    ],
)
def test_what_would_help_goes_by_what_is_known(share, workers, idle, said):
    assert advice(share, workers, idle) == said


def test_the_workers_outlive_the_daemon_and_not_the_process():
    rule, next_one = DataBound(), DataBound()
    rule.happened(event(LoopStart(workers=3)), RunView())
    rule.happened(event(LoopStart(total=9)), RunView())
    next_one.know(rule.knowledge())
    view = RunView(host=HostNow(cpu=0.0, cpus=8.0))
    slow = list(steps(lambda i, t: 0.5, 1200, wait=lambda i, t: 0.3))
    assert told(next_one, slow, view)[0].evidence["workers"] == 3
    next_one.happened(event(SessionStart(pid=1, host="h", branch=0)), RunView())
    assert next_one.knowledge() is None


def test_what_has_become_worse_is_said_again_and_its_end_under_the_same_key():
    rule = DataBound()
    shares = {0: 0.12, 1: 0.4, 2: 0.0}
    found = told(rule, steps(lambda i, t: 0.5, 4500, wait=lambda i, t: 0.5 * shares[i // 1500]))
    assert [f.severity for f in found] == ["info", "warning", "info"]
    assert len({f.key for f in found}) == 1
    assert found[-1].evidence[RECOVERED] == 1


def test_another_process_has_a_tail_of_its_own():
    rule = SlowSteps()
    told(rule, steps(lambda i, t: 0.1, 4000))
    rule.happened(event(SessionStart(pid=1, host="h", branch=0)), RunView())
    uneven = later(steps(lambda i, t: 1.0 if i * 7919 % 23 == 0 and i % 4 else 0.1, 4000), 4000, 400.0)
    assert told(rule, uneven) == []


def test_a_knob_that_changes_the_work_begins_a_new_level():
    for knob, said in (("lr", 1), ("grad_accum", 0)):
        rule = Throughput()
        told(rule, steps(lambda i, t: 4.0, 4000))
        change = KnobChanged(knob=knob, old=1.0, new=2.0, scale=2.0)
        rule.happened(event(change), RunView())
        assert len(told(rule, later(steps(lambda i, t: 8.0, 2000), 4000, 17_000.0))) == said, knob


def test_what_is_not_told_of_every_step_says_nothing_of_the_time_between():
    every = list(steps(lambda i, t: 0.5, 40_000))
    assert told(Overhead(), every) == []
    assert told(Overhead(), every[::20]) == []


def test_snapshots_are_named_apart_from_what_the_script_does_between_steps():
    rule, found = Overhead(), []
    for sample in steps(lambda i, t: 0.5, 20_000, gap=lambda i: 5.0 if i % 50 == 0 else 0.0):
        if sample.step % 50 == 0:
            rule.happened(event(SnapshotTaken(slot=0, branch=0, step=sample.step, bytes=1, seconds=5.0), sample.time), RunView())
        found += told(rule, [sample])
    assert "16% into sitter's snapshots" in found[0].text
    assert "between steps" not in found[0].text


def test_moments():
    friday = datetime.datetime(2026, 3, 13, 8, 0)  # noqa: DTZ001
    at = friday.timestamp()
    for text, meant in (
        ("Sat 09:00", datetime.datetime(2026, 3, 14, 9, 0)),  # noqa: DTZ001
        ("friday 09:00", datetime.datetime(2026, 3, 13, 9, 0)),  # noqa: DTZ001
        ("Fri 07:00", datetime.datetime(2026, 3, 20, 7, 0)),  # noqa: DTZ001
        ("07:30", datetime.datetime(2026, 3, 14, 7, 30)),  # noqa: DTZ001
        ("2026-03-15 12:00", datetime.datetime(2026, 3, 15, 12, 0)),  # noqa: DTZ001
    ):
        assert moment(text, at) == meant.timestamp(), text
    assert moment("2026-03-15T12:00+00:00", at) == datetime.datetime(2026, 3, 15, 12, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize("text", ["soon", "Sat 25:00", "Sun day 09:00", "2026-13-01", "12"])
def test_a_deadline_that_cannot_be_read_is_said_at_once(text):
    with pytest.raises(msgspec.ValidationError, match="deadline"):
        msgspec.convert({"deadline": text}, Deadline.Params)


class At:
    """Both clocks."""

    def __init__(self, now):
        self.now = now

    def monotonic(self):
        return self.now

    def wall(self):
        return self.now


def test_which_saturday_was_meant_outlives_the_daemon():
    thursday = datetime.datetime(2026, 3, 12, 8, 0).timestamp()  # noqa: DTZ001
    rule, next_one = (Deadline(Deadline.Params(deadline="Sat 09:00")) for _ in range(2))
    rule.tick(RunView(in_session=True, step=1, total=10, clock=At(thursday)), 0.0)
    sunday = thursday + 3 * 86400.0
    next_one.know(msgspec.msgpack.decode(msgspec.msgpack.encode(rule.knowledge())))
    found = []
    for second in range(0, 3600, 10):
        view = RunView(in_session=True, step=1 + second, total=100_000, clock=At(sunday + second))
        found += [f for f in [next_one.tick(view, float(second))] if f is not None]
    assert len(found) == 1
    assert "after the deadline of Sat 14 March, 09:00" in found[0].text
