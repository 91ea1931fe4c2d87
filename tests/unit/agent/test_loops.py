"""The loops count as the script's own would, with us or without, and end where they should."""

import math
import weakref
from typing import Any

import numpy as np
import pytest

from sitter_agent.feed import Feed
from sitter_wire.commands import DropBatches, Rollback, Stop
from sitter_wire.events import GoodBye, LoopStart, Restored, SnapshotTaken
from tests.unit.agent.conftest import Draws, Quadratic, Run


def test_steps_are_numbered_as_range_would(begin):
    agent = begin()
    assert list(agent.steps(5)) == [0, 1, 2, 3, 4]
    assert Run(agent.run).events(GoodBye) == [GoodBye(how="total")]


def test_the_loader_is_iterated_again_and_again_until_total(begin):
    agent = begin()
    assert list(agent.loop("abc", total=7)) == list(enumerate("abcabca"))


def test_without_total_it_is_one_pass(begin):
    assert list(begin().loop("abc")) == [(0, "a"), (1, "b"), (2, "c")]


def test_a_pass_that_yields_nothing_ends_with_a_warning(begin, capsys):
    agent = begin()
    one_shot = iter("abc")
    assert [b for _, b in agent.loop(one_shot, total=10)] == ["a", "b", "c"]
    assert "yielded nothing in a whole pass" in capsys.readouterr().err
    assert Run(agent.run).events(GoodBye) == [GoodBye(how="left early")]


def test_an_exception_of_the_loader_is_the_scripts(begin):
    def broken():
        yield 1
        raise OSError("disk gone")

    agent = begin()
    with pytest.raises(OSError, match="disk gone"):
        list(agent.loop(broken(), total=3))


def test_leaving_early_is_said(begin):
    agent = begin()
    for step in agent.steps(10):
        if step == 3:
            break
    assert Run(agent.run).events(GoodBye) == [GoodBye(how="left early")]


def test_epochs_count_from_zero_and_steps_go_on(begin):
    agent = begin()
    seen = [(epoch, agent.step, batch) for epoch in agent.epochs(2) for batch in agent.batches("xyz")]
    assert seen == [(0, 0, "x"), (0, 1, "y"), (0, 2, "z"), (1, 3, "x"), (1, 4, "y"), (1, 5, "z")]
    run = Run(agent.run)
    assert run.events(LoopStart) == [LoopStart(epochs=2), LoopStart(total=6, epochs=2, step=3)]
    assert run.events(GoodBye) == [GoodBye(how="total")]


def test_the_workers_of_the_loader_are_told_once_and_again_when_they_change(begin):
    class Loader(list):
        num_workers = 2

    agent = begin()
    loader = Loader("xy")
    for epoch in agent.epochs(3):
        loader.num_workers = 4 if epoch == 2 else 2
        list(agent.batches(loader))
    told = [e for e in Run(agent.run).events(LoopStart) if e.workers is not None]
    assert told == [LoopStart(workers=2), LoopStart(workers=4, step=4)]


def test_a_pass_left_by_break_is_begun_anew_in_the_next_epoch(begin):
    agent = begin()
    seen = []
    for epoch in agent.epochs(2):
        for batch in agent.batches("xyz"):
            seen.append((epoch, batch))
            if batch == "y":
                break
    assert seen == [(0, "x"), (0, "y"), (1, "x"), (1, "y")]


def test_dropped_batches_are_fetched_and_thrown_away(begin, daemon):
    agent = begin()
    d = daemon(agent)
    turns = agent.loop(range(100), total=6)
    assert next(turns) == (0, 0)
    order = d.order(DropBatches(count=3))
    assert list(turns) == [(1, 4), (2, 5), (3, 6), (4, 7), (5, 8)]
    assert d.outcome(order).status == "applied"


def test_stop_ends_the_loop_as_total_would(begin, daemon):
    agent = begin()
    d = daemon(agent)
    seen = []
    for step in agent.steps(1000):
        seen.append(step)
        if step == 4:
            order = d.order(Stop(why="enough"))
    assert seen[-1] == 4
    assert d.outcome(order).status == "applied"
    assert Run(agent.run).events(GoodBye) == [GoodBye(how="stopped")]


def test_stop_raises_once_in_a_loop_of_ones_own(begin, daemon):
    agent = begin()
    d = daemon(agent)
    agent.log(step=1, loss=1.0)
    agent.safe_point()
    d.order(Stop())
    agent.log(step=2, loss=1.0)
    with pytest.raises(KeyboardInterrupt, match="stopped by command after step 2"):
        agent.safe_point()
    agent.safe_point()


class _Optimizer:
    """Counts steps the way a framework's hooks do."""

    def __init__(self) -> None:
        self.steps = 0


def test_a_turn_without_a_step_is_no_safe_point(begin):
    agent = begin()
    optimizer = _Optimizer()
    agent._core.generic.steps_done = lambda: optimizer.steps
    seen = []
    for step, micro in agent.loop(range(100), total=3):
        seen.append((step, micro))
        agent.log(loss=1.0)
        if micro % 4 == 3:
            optimizer.steps += 1
    assert seen == [(i // 4, i) for i in range(12)]
    assert agent.micro == 12
    assert [s for s, _ in Run(agent.run).values("step_time")] == [0, 1, 2]


def test_commands_are_taken_although_every_step_is_skipped(begin, daemon):
    agent = begin()
    optimizer = _Optimizer()
    agent._core.generic.steps_done = lambda: optimizer.steps
    d = daemon(agent)
    turns = agent.loop(range(10_000), total=100)
    next(turns)
    order = d.order(Stop())
    assert len(list(turns)) < 50
    assert d.outcome(order).status == "applied"


def test_automatic_signals_stand_at_every_step(begin):
    agent = begin()
    list(agent.loop(range(4)))
    run = Run(agent.run)
    assert [s for s, _ in run.values("step_time")] == [0, 1, 2, 3]
    assert all(v >= 0 for _, v in run.values("data_wait"))


# -- rollback with and without replay ----------------------------------------------------------------------------------


def finish(agent, d, loader, total, *, fault_at, action, model=None):
    """Train; at ``fault_at`` something ruins the model, and it is sent back."""
    model = (model or Quadratic()).known_to(agent)
    order = None
    batches, losses = [], []
    for step, batch in agent.loop(loader, total=total):
        if step == fault_at and order is None:
            model.w[...] = math.nan
            d.clear(agent._core.ring.held[0].step)
            order = d.order(action)
        batches.append((step, batch[0]))
        losses.append((step, model.step(batch)))
        agent.log(loss=losses[-1][1])
    return model, batches, losses, d.outcome(order) if order else None


def fixed_batches(n=7):
    return [np.random.default_rng(100 + i).normal(size=32) for i in range(n)]


def test_rollback_with_replay_ends_bit_exactly_as_the_unfaulted_run(begin, daemon):
    data = fixed_batches()
    agent = begin()
    clean, _, clean_losses, _ = finish(agent, None, data, 60, fault_at=None, action=None)
    agent.close()

    agent = begin()
    d = daemon(agent)
    action = Rollback(replay=True)
    faulted, _, losses, outcome = finish(agent, d, data, 60, fault_at=40, action=action)
    assert outcome.status == "applied"
    assert outcome.detail["exact"] is True
    back = outcome.detail["step"]
    assert faulted.w.tobytes() == clean.w.tobytes()
    assert faulted.v.tobytes() == clean.v.tobytes()
    assert [x for x in losses if not math.isnan(x[1])][-(60 - back) :] == clean_losses[back:]
    run = Run(agent.run)
    restored = run.events(Restored)[0]
    assert (restored.branch, restored.step, restored.left, restored.missing) == (1, back, 41, [])


class Shuffled:
    """A loader that draws from the process's own generator at every pass and at every batch."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        for i in np.random.permutation(len(self.data)):
            yield self.data[i] + 0.01 * np.random.normal(size=32)


class NoisyQuadratic(Quadratic):
    """As a model with dropout: it draws from the generator that the loader draws from too."""

    def step(self, batch):
        return super().step(batch * (np.random.random(32) > 0.1))


def test_replay_puts_back_the_random_numbers_of_loader_and_model(begin, daemon):
    """The loader's own draws come between the model's: begun again and skipped, both streams must be as they were."""
    data = fixed_batches(11)
    np.random.seed(5)
    agent = begin()
    clean, clean_batches, _, _ = finish(
        agent, None, Shuffled(data), 60, fault_at=None, action=None, model=NoisyQuadratic()
    )
    agent.close()
    np.random.seed(5)
    agent = begin()
    d = daemon(agent)
    faulted, batches, _, outcome = finish(
        agent, d, Shuffled(data), 60, fault_at=43, action=Rollback(replay=True), model=NoisyQuadratic()
    )
    back = outcome.detail["step"]
    assert batches[:44] == clean_batches[:44]
    assert batches[44:] == clean_batches[back:]
    assert faulted.w.tobytes() == clean.w.tobytes()


@pytest.mark.parametrize("loader", [Draws, lambda: PrivateGenerator()], ids=["state_dict", "private generator"])
def test_replay_with_a_loader_that_has_its_own_state(begin, daemon, loader):
    agent = begin()
    clean, *_ = finish(agent, None, loader(), 60, fault_at=None, action=None)
    agent.close()
    agent = begin()
    d = daemon(agent)
    faulted, *_, outcome = finish(agent, d, loader(), 60, fault_at=43, action=Rollback(replay=True))
    assert outcome.detail["exact"] is True
    assert faulted.w.tobytes() == clean.w.tobytes()


class PrivateGenerator:
    """Keeps a generator of its own, drawn at every pass and batch."""

    def __init__(self):
        self._generator = np.random.default_rng(9)

    def __iter__(self):
        for _ in self._generator.permutation(8):
            yield self._generator.normal(size=32)


def test_by_default_the_data_go_on(begin, daemon):
    agent = begin()
    d = daemon(agent)
    data = [np.full(32, float(i)) for i in range(1000)]
    _, batches, _, outcome = finish(agent, d, data, 60, fault_at=40, action=Rollback())
    assert "data go on" in outcome.text
    assert [b for _, b in batches] == [float(i) for i in range(len(batches))]
    back = outcome.detail["step"]
    assert [s for s, _ in batches] == [*range(41), *range(back, 60)]


def test_by_default_random_numbers_go_on_too(begin, daemon):
    """A loader that draws from the process's generator would else bring the same batches again, which nobody asked for."""
    agent = begin()
    d = daemon(agent)
    np.random.seed(1)
    expected = np.random.RandomState(1).normal(size=200)

    class Drawn:
        def __iter__(self):
            while True:
                yield np.full(32, np.random.normal())

    _, batches, _, _ = finish(agent, d, Drawn(), 60, fault_at=40, action=Rollback())
    assert [b for _, b in batches] == list(expected[: len(batches)])


def test_replay_of_a_one_shot_iterator_says_that_the_data_went_on(begin, daemon):
    agent = begin()
    d = daemon(agent)
    model, _, _, outcome = finish(agent, d, iter(fixed_batches(200)), 60, fault_at=40, action=Rollback(replay=True))
    assert outcome.status == "applied"
    assert outcome.detail["exact"] is False
    assert "cannot be begun again" in outcome.text
    assert np.isfinite(model.w).all()


def test_replay_says_that_worker_processes_have_their_own_random_numbers(begin, daemon):
    class WithWorkers(list):
        num_workers = 2

    agent = begin()
    d = daemon(agent)
    *_, outcome = finish(agent, d, WithWorkers(fixed_batches()), 60, fault_at=40, action=Rollback(replay=True))
    assert "2 worker processes have random numbers of their own" in outcome.text
    assert outcome.detail["exact"] is False


def test_replay_into_an_earlier_epoch_goes_on_with_the_epoch_after_it(begin, daemon):
    def train(agent, d, fault_at):
        model = Quadratic().known_to(agent)
        order, seen = None, []
        for epoch in agent.epochs(6):
            for batch in agent.batches(data):
                if agent.step == fault_at and order is None:
                    model.w[...] = math.nan
                    d.clear(0)
                    order = d.order(Rollback(to=0, replay=True))
                model.step(batch)
                agent.log(loss=0.0)
            seen.append(epoch)
        return model, seen, order

    data = fixed_batches(5)
    agent = begin()
    clean, seen, _ = train(agent, None, None)
    assert seen == [0, 1, 2, 3, 4, 5]
    agent.close()
    agent = begin()
    d = daemon(agent)
    faulted, seen, order = train(agent, d, 13)
    assert d.outcome(order).detail["exact"] is True
    assert faulted.w.tobytes() == clean.w.tobytes()
    assert faulted.steps == 30
    assert seen == [0, 1, 2, 1, 2, 3, 4, 5]


def test_replay_over_a_change_of_loader_says_that_the_data_went_on(begin, daemon):
    agent = begin()
    d = daemon(agent)
    model = Quadratic().known_to(agent)
    kept = [fixed_batches(3), fixed_batches(3)]
    order = None
    for _, batch in agent.loop(kept[0]):
        model.step(batch)
    for step, batch in agent.loop(kept[1], total=9):
        if step == 5 and order is None:
            order = d.order(Rollback(to=0, replay=True))
        model.step(batch)
    outcome = d.outcome(order)
    assert outcome.detail["exact"] is False
    assert "another loader" in outcome.text


def test_epochs_begin_at_zero_each_time(begin):
    agent = begin()
    assert list(agent.epochs(2)) == [0, 1]
    assert list(agent.epochs(3)) == [0, 1, 2]


def test_the_first_snapshot_comes_before_the_first_step(begin):
    agent = begin()
    model = Quadratic().known_to(agent)
    before = model.w.copy()
    turns = agent.loop(fixed_batches(), total=10)
    next(turns)
    first = Run(agent.run).events(SnapshotTaken)[0]
    assert (first.step, first.branch) == (0, 0)
    assert (agent._core.ring.held[0].captured["w"] == before).all()


class _Batch:
    """Something large."""


class _Loader:
    """Its iterator stands for worker processes and what they have fetched beforehand."""

    def __init__(self) -> None:
        self.iterators: list[weakref.ref[Any]] = []

    def __iter__(self):
        found = self._batches()
        self.iterators.append(weakref.ref(found))
        return found

    def _batches(self):
        for _ in range(4):
            yield _Batch()


@pytest.mark.parametrize("how", ["loop", "batches"])
def test_a_batch_that_the_script_lets_go_of_is_gone(begin, how):
    """As in a loop of its own: in the midst of a step its memory may be what is needed."""
    agent = begin()
    for turn in getattr(agent, how)(_Loader()):
        batch = turn[1] if how == "loop" else turn
        ref = weakref.ref(batch)
        del batch, turn
        assert ref() is None


@pytest.mark.parametrize("how", ["loop", "batches"])
@pytest.mark.parametrize("left", ["early", "at its end"])
def test_behind_a_loop_its_iterator_is_gone(begin, how, left):
    agent, loader = begin(), _Loader()
    for _ in getattr(agent, how)(loader, **({"total": 6} if how == "loop" else {})):
        if left == "early":
            break
    assert [ref() for ref in loader.iterators] == [None] * len(loader.iterators)
    assert loader.iterators


def test_a_loader_is_not_begun_only_to_see_whether_it_could_be(begin):
    loader = _Loader()
    feed = Feed(loader)
    assert feed.rewind(feed.position()) == []
    assert loader.iterators == []
