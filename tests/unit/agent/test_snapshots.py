"""Snapshots: their ages spread out, what is cleared is kept, what is suspect is overwritten first, and the budget holds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitter_agent.generic_state import GenericAdapter
from sitter_agent.progress import Progress
from sitter_agent.snapshots import BIG, MOST_SLOTS, SPACING_STEPS, Ring, size


class Bench:
    """A ring with a clock that only moves when it is told; a capture costs ``cost`` seconds."""

    def __init__(self, cost=0.0, room=1 << 30, nbytes=800, heard=True):
        self.now, self.cost, self.room, self.heard = 100.0, cost, room, heard
        self.ring = Ring(lambda: self.now, lambda: self.room)
        self.state = {"w": np.zeros(nbytes // 8)}
        self.adapter = GenericAdapter()
        self.adapter.register(self._save, lambda s: None)
        self.progress = Progress()
        self.points = 0
        self.said = self.ring.prepare(self.adapter.nbytes())
        self.ring.first(self.adapter, lambda s: None, self.progress, 0)

    def _save(self):
        self.now += self.cost
        return self.state

    def steps(self, n, seconds=0.01, lag=None):
        """Train; the daemon clears what lies ``lag`` seconds back (None: never)."""
        taken = []
        for _ in range(n):
            self.now += seconds
            self.progress.done += 1
            self.points += 1
            self.state["w"] += 1
            if lag is not None:
                self.ring.clear_up_to(
                    (self.progress.branch, self.progress.done - 1 - int(lag / seconds)), self.progress
                )
            if self.ring.due(self.progress.done, self.points, self.heard):
                s = self.ring.take(self.adapter, lambda s: None, self.progress, self.points)
                if s is not None:
                    taken.append(s.step)
        return taken

    def ages(self):
        return sorted(self.now - s.at for s in self.ring.held)


def test_none_within_a_second_or_twenty_steps_whichever_is_shorter():
    fast = Bench(heard=False)
    assert fast.steps(100, 0.002) == [20, 40, 60, 80, 100]
    slow = Bench(heard=False)
    assert slow.steps(5, 0.5) == [2, 4]


@pytest.mark.parametrize("cost", [0.001, 0.05, 1.0])
def test_they_cost_at_most_a_hundredth_of_the_runs_time(cost):
    bench = Bench(cost=cost, heard=False)
    began = bench.now
    bench.steps(20_000, 0.05)
    assert bench.ring.spent <= 0.01 * (bench.now - began)
    assert bench.ring.spent > 0.002 * (bench.now - began) or cost < 0.01, "and the budget is used"


def test_what_goes_with_a_snapshot_is_paid_from_the_same_budget():
    bench = Bench(cost=0.001, heard=False)
    began = bench.now
    for _ in range(200):
        if bench.steps(20, 0.001):
            bench.ring.charge(0.001)
    assert bench.ring.spent <= 0.01 * (bench.now - began) + 0.002
    assert bench.ring.spent > 0.005 * (bench.now - began), "and the budget is used"


def test_a_pause_saves_nothing_up():
    bench = Bench(cost=0.002, heard=False)
    bench.steps(100, 0.001)
    bench.now += 3600
    assert len(bench.steps(1_000, 0.001)) <= 6, "one in 200 ms, as without the pause, and the one that was due"


def test_ages_spread_over_seconds_and_minutes():
    bench = Bench()
    bench.steps(30_000, 0.02, lag=0.3)
    ages = bench.ages()
    assert len(ages) == MOST_SLOTS
    assert ages[0] <= 1.0
    assert ages[-1] >= 60.0
    ratios = [b / a for a, b in itertools.pairwise(ages[1:])]
    assert max(ratios) < 12, f"no gap as wide as {ages}"


def test_the_newest_cleared_one_is_never_overwritten_however_long_clearance_lags():
    bench = Bench(heard=False)
    bench.steps(400, 0.02, lag=0.3)
    pinned = bench.ring.newest_cleared(None, bench.progress)
    bench.steps(5_000, 0.02)  # a stopped daemon: nothing more is cleared
    assert pinned in bench.ring.held
    assert pinned.captured["w"][0] == pinned.step


def test_waiting_ones_are_not_starved_while_clearance_lags():
    """Lag of 2 s, a snapshot every 0.4 s: were the oldest waiting one overwritten each time, none would ever be cleared."""
    bench = Bench()
    bench.steps(200, 0.02, lag=2.0)
    for _ in range(50):
        bench.steps(100, 0.02, lag=2.0)
        newest = bench.ring.newest_cleared(None, bench.progress)
        assert bench.now - newest.at < 4.5


def test_with_two_slots_the_only_waiting_one_is_left_to_be_cleared():
    bench = Bench(room=2 * 800 * 4 + 100)
    assert bench.ring.slots == 2
    bench.steps(200, 0.02, lag=2.0)
    for _ in range(20):
        bench.steps(200, 0.02, lag=2.0)
        assert bench.now - bench.ring.newest_cleared(None, bench.progress).at < 7.0


def test_a_daemon_that_is_there_and_does_not_clear_suspects_something():
    bench = Bench()
    bench.steps(500, 0.02, lag=0.2)
    taken = bench.steps(2_000, 0.02)
    assert len(taken) <= 7, "only what was taken before the suspicion could show"
    assert bench.steps(100, 0.02, lag=0.2), "and on again once it clears"


def test_what_is_being_written_is_not_overwritten():
    bench = Bench(room=4 * 800 * 3, heard=False)
    assert bench.ring.slots == 3
    bench.steps(40)
    written = bench.ring.held[0]
    content = written.captured["w"].copy()
    bench.ring.hold(written)
    bench.steps(2_000)
    assert (written.captured["w"] == content).all()
    bench.ring.release(written)


def test_a_restore_discards_what_came_after_and_reuses_its_memory():
    bench = Bench(heard=False)
    bench.steps(100)
    assert [s.step for s in bench.ring.held] == [0, 20, 40, 60, 80, 100]
    bench.progress.fork(1, 40)
    bench.ring.keep_line(bench.progress)
    assert [(s.branch, s.step) for s in bench.ring.held] == [(0, 0), (0, 20), (0, 40)]
    bench.steps(60)
    assert [(s.branch, s.step) for s in bench.ring.held] == [(0, 0), (0, 20), (0, 40), (1, 60), (1, 80), (1, 100)]
    assert len({id(s.captured) for s in bench.ring.held}) == 6


def test_clearance_of_an_abandoned_stretch_clears_nothing_on_the_new_branch():
    bench = Bench(heard=False)
    bench.steps(60)
    bench.progress.fork(1, 20)
    bench.ring.keep_line(bench.progress)
    bench.steps(40)
    bench.ring.clear_up_to((0, 10_000), bench.progress)
    assert [(s.branch, s.step) for s in bench.ring.held if s.cleared] == [(0, 0), (0, 20)]
    bench.ring.clear_up_to((1, 45), bench.progress)
    assert [(s.branch, s.step) for s in bench.ring.held if s.cleared] == [(0, 0), (0, 20), (1, 40)]


def test_only_the_present_line_is_looked_at():
    p = Progress()
    p.done = 100
    p.fork(1, 60)
    p.done = 90
    p.fork(2, 80)
    p.done = 85
    assert p.line == [(0, 0), (1, 60), (2, 80)]
    assert p.on_line(0, 60)
    assert not p.on_line(0, 61)
    assert p.on_line(1, 80)
    assert not p.on_line(1, 85)
    p.fork(3, 50)
    assert p.line == [(0, 0), (3, 50)]
    assert not p.on_line(1, 60)


def test_memory_is_a_quarter_of_what_is_left_and_two_above_two_gigabytes():
    ring = Ring(lambda: 0.0, lambda: 100 << 30)
    assert "≤ 8 ×" in ring.prepare(1 << 30)
    assert "≤ 2 ×" in ring.prepare(BIG + 1)
    small = Ring(lambda: 0.0, lambda: 12 * 1000)
    assert small.prepare(1000) == "snapshots: ≤ 3 × 1.0 kB in memory"
    assert "checkpoints serve" in small.prepare(2000)
    assert small.slots == 0
    assert not small.due(10_000, 10, True)


def test_memory_is_given_back_under_pressure_down_to_two():
    bench = Bench(heard=False)
    bench.steps(4_000, 0.05, lag=0.2)
    assert len(bench.ring.held) == MOST_SLOTS
    bench.room = 100
    bench.steps(20_000, 0.05, lag=0.2)
    assert (bench.ring.slots, len(bench.ring.held)) == (2, 2)
    assert bench.ring.newest_cleared(None, bench.progress) is not None


def test_a_capture_that_fails_leaves_nothing_half_written_to_be_restored():
    bench = Bench(heard=False)
    bench.steps(400, lag=0.1)
    bench.adapter.register(lambda: 1 / 0, lambda s: None)
    before = list(bench.ring.held)
    bench.now += 1
    bench.progress.done += SPACING_STEPS
    with pytest.raises(ZeroDivisionError):
        bench.ring.take(bench.adapter, lambda s: None, bench.progress, bench.points)
    assert all(s in before for s in bench.ring.held)
    assert len(bench.ring.held) == len(before) - 1
    bench.adapter.register(bench._save, lambda s: None)
    assert bench.ring.take(bench.adapter, lambda s: None, bench.progress, bench.points) is not None


KINDS = ["steps", "clear", "restore", "hold", "release"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 200)), max_size=40), st.integers(2, 8))
def test_whatever_happens_what_is_cleared_and_newest_holds_its_own_state(events, slots):
    """In any order of training, clearing, restoring and writing: each snapshot's content is its step's, and the pin stays."""
    bench = Bench(room=4 * 800 * slots + 8, heard=False)
    held = []
    for kind, n in events:
        pin = bench.ring.newest_cleared(None, bench.progress)
        if kind == "steps":
            bench.steps(n)
            assert pin is None or pin in bench.ring.held
        elif kind == "clear":
            bench.ring.clear_up_to((bench.progress.branch, n), bench.progress)
        elif kind == "restore" and pin is not None:
            bench.progress.fork(bench.progress.branch + 1, pin.step)
            bench.state["w"][...] = pin.captured["w"]
            bench.ring.keep_line(bench.progress)
            assert pin in bench.ring.held
        elif kind == "hold" and bench.ring.held:
            s = bench.ring.held[n % len(bench.ring.held)]
            bench.ring.hold(s)
            held.append((s, s.captured["w"].copy()))
        elif kind == "release" and held:
            s, content = held.pop()
            assert (s.captured["w"] == content).all()
            bench.ring.release(s)
        assert len({id(s.captured) for s in bench.ring.held}) == len(bench.ring.held) <= slots
        for s in bench.ring.held:
            assert s.captured["w"][0] == s.step


def test_sizes_as_people_say_them():
    assert [size(n) for n in (0, 640, 8100, 33e9, 2.5e12)] == ["0 B", "640 B", "8.1 kB", "33 GB", "2.5 TB"]
