"""Whoever logs in the midst of a log: the garbage collector's callbacks, an object that is being deleted, a signal handler, a tracer.

CPython 3.11 collects wherever a container is allocated, a tuple of four for instance, and not only between two instructions."""

import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import FrameType

import pytest

from sitter_agent.recorder import Recorder
from sitter_agent.segments import Segment
from sitter_wire.events import Remark
from tests.unit.agent.test_quick import check, one, way
from tests.unit.agent.test_recorder import shipped

SMALL = 4096
STEPS = 1500


class Intruder:
    """Logs a value under branch 1: by turns by the long way, under names of its own, and by the short one. Not from inside itself."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.put, self.n, self.away, self.held = recorder, way(recorder), 0, False, []

    def __call__(self, *_: object) -> None:
        if self.away or self.n >= 20 * STEPS:
            return
        self.away = True
        if self.n % 3:
            one(self.recorder, self.put, self.n, 1)
        else:
            self.recorder.log(self.n, 1, {"loss": float(self.n), "lr": 0.5})
        self.n += 1
        self.away = False

    def collected(self, frame: FrameType) -> None:
        """A collection, begun by an allocation of ``frame``; where that is one of the recorder's it logs. What it holds has the next
        allocation begin another one."""
        self.held += [[], [], []]
        if frame.f_code in OURS:
            self()

    def step(self) -> None:
        """CPython keeps tuples that were let go of for the next of that size, which then is no allocation: so all of them are taken."""
        gc.disable()
        self.held = [(self.n,) * n for n in range(1, 15) for _ in range(20)]
        gc.enable()


IN = (
    Recorder._write, Recorder._blob, Recorder._switch, Recorder._fill_holes, Recorder._without_oldest, Recorder.prepare,
    Recorder.committed, Recorder.stretch, Recorder.mark, Segment.mark,
)  # fmt: skip
OURS = {f.__code__ for f in IN}


@contextlib.contextmanager
def from_gc_callbacks(intruder: Intruder) -> Iterator[None]:
    def called(phase: str, info: object) -> None:
        intruder.collected(sys._getframe(1))

    before = gc.get_threshold()
    gc.callbacks.append(called)
    gc.set_threshold(1, 1000, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(called)


@contextlib.contextmanager
def from_del(intruder: Intruder) -> Iterator[None]:
    """Each dead cycle leaves another one behind, which the next collection finds."""

    class Dying:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if alive:
                intruder.collected(sys._getframe(1))
                Dying()

    alive, before = [True], gc.get_threshold()
    Dying()
    gc.set_threshold(1, 1000, 1000)
    try:
        yield
    finally:
        alive.clear()
        gc.set_threshold(*before)
        gc.collect()


@contextlib.contextmanager
def from_a_signal_handler(intruder: Intruder) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, intruder)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def from_settrace(intruder: Intruder) -> Iterator[None]:
    """At every call of a Python function, ours included."""
    before = sys.gettrace()
    sys.settrace(intruder)
    try:
        yield
    finally:
        sys.settrace(before)


WAYS = {"gc.callbacks": from_gc_callbacks, "__del__": from_del, "signal": from_a_signal_handler, "settrace": from_settrace}


@pytest.fixture
def small(tmp_path):
    made = Recorder(tmp_path, "s", segment_bytes=SMALL)
    yield made
    made.close()


@pytest.mark.parametrize("how", ["long", "short", "events"])
@pytest.mark.parametrize("by", WAYS)
def test_whoever_logs_in_the_midst_of_a_log_tears_no_record_and_no_number(small, by, how):
    """Over some hundred rotations of segments; shipments in between, as the link makes them."""
    intruder = Intruder(small)
    put = way(small)
    with WAYS[by](intruder):
        for step in range(STEPS):
            intruder.step()
            if how == "short":
                one(small, put, step, 0)
            else:
                small.log(step, 0, {"loss": float(step), "lr": 0.5})
            if how == "events":
                small.event(Remark(text="x" * (step % 40)), step, 2)
                small.mark()
                if step % 10 == 0:
                    small.stretch(small.written, 3_000)
    assert intruder.n > 20
    assert small._segments[-1].path.name > "00000020.rec"
    check(small, {0: STEPS, 1: intruder.n})


@pytest.mark.parametrize("by", WAYS)
def test_nor_while_segments_are_prepared_committed_and_let_go_of(tmp_path, by):
    """At the cap the oldest go; what is left is contiguous, can be shipped, and lies in the files that are there."""
    recorder = Recorder(tmp_path, "s", segment_bytes=SMALL, cap_bytes=12 * SMALL)
    intruder = Intruder(recorder)
    with WAYS[by](intruder):
        for step in range(STEPS):
            intruder.step()
            recorder.log(step, 0, {"loss": float(step), "lr": 0.5})
            if recorder.wants_spare and step % 300 < 150:
                recorder.prepare()
            if step % 200 == 199:
                recorder.committed(recorder.written - 300)
    assert intruder.n > 20
    kept = recorder._segments
    assert [s.path for s in kept] == sorted(p for p in (tmp_path / "s").glob("*.rec") if any(p.read_bytes()[:8]))
    assert all(a.last + 1 == b.first for a, b in pairwise(kept))
    found = shipped(recorder, 3_000, kept[0].first)
    assert [r.seq for r in found] == list(range(kept[0].first, recorder.written + 1))
    recorder.close()


class Watched(tuple):
    """Whoever logs in the midst of a cut of it, or of its being copied into another, does it here: once, and past the end of a segment."""

    deed = staticmethod(lambda: None)

    def _once(self) -> None:
        deed, Watched.deed = Watched.deed, staticmethod(lambda: None)
        deed()

    def __getitem__(self, i):
        found = super().__getitem__(i)
        if isinstance(i, slice):
            self._once()
        return found

    def __iter__(self):
        self._once()
        return super().__iter__()


@pytest.mark.parametrize("when", ["committed", "_drop_oldest", "switch"])
def test_a_segment_that_is_begun_while_another_is_let_go_of_is_not_forgotten(small, when):
    for step in range(200):
        small.log(step, 0, {"loss": float(step), "lr": 0.5})
    oldest, count = small._segments[0], len(small._segments)
    assert count > 2
    small._segments = Watched(small._segments)

    def deed() -> None:
        for n in range(150):
            small.log(n, 1, {"loss": float(n), "lr": 0.5})

    Watched.deed = staticmethod(deed)
    if when == "committed":
        small.committed(oldest.last)
    elif when == "_drop_oldest":
        assert small._drop_oldest() is oldest
    for step in range(200, 300):
        small.log(step, 0, {"loss": float(step), "lr": 0.5})
    kept = small._segments
    assert len(kept) > count
    assert kept[-1] is small._active
    assert all(a.last + 1 == b.first for a, b in pairwise(kept))
    assert (kept[0] is oldest) == (when == "switch")
    found = shipped(small, 3_000, kept[0].first)
    assert sorted((r.branch, r.step) for r in found)[-150:] == [(1, n) for n in range(150)]
