"""The short way of a log: no lock, and nobody is let in where it would matter. Wrong forms of it fail here."""

import dis
import math
import random
import signal
import struct
import sys
import threading
import time

import numpy as np
import pytest

from sitter_agent import quick
from sitter_agent.recorder import Recorder
from sitter_wire.codec import GarbageError
from sitter_wire.events import Remark
from sitter_wire.records import Happening, Point, decode_stream
from tests.unit.agent.test_recorder import close_what_was_only_opened, points, records, shipped

NAMES = ("loss", "lr")
SMALL = 4096

TAKEN = "                place._at, place._next = end, seq + 1\n"
PACKED = "                pack_into(place._mapped, at, word, step, branch, now, {v}, seq)\n"
WRONG = {
    "the place is read, and used after a call": ("        end = at + length\n", "        end = at + length\n        clock()\n"),
    "a call between place and sequence number": (
        TAKEN, "                place._at = end\n                clock()\n                place._next = seq + 1\n",
    ),
    "packed before the place is taken": (TAKEN + PACKED, PACKED + TAKEN),
    "a call between taking and packing": (TAKEN, TAKEN + "                clock()\n"),
}  # fmt: skip


def wrong(how: str) -> str:
    before, after = WRONG[how]
    assert quick.SOURCE.count(before) == 1
    return quick.SOURCE.replace(before, after)


@pytest.fixture
def small(tmp_path):
    made = Recorder(tmp_path, "s", segment_bytes=SMALL)
    yield made
    made.close()
    close_what_was_only_opened(tmp_path)


def way(recorder: Recorder, names: tuple[str, ...] = NAMES, source: str = quick.SOURCE) -> quick.Put:
    """The recorder's own, or a wrong one in its place."""
    recorder.log(0, 7, dict.fromkeys(names, 0.0))
    assert recorder.short_way(names) is not None
    word = recorder._schemas[names][1]
    return quick.make(recorder, len(names), word, recorder._ship, recorder._holes, recorder._fill_holes, source)


def one(recorder: Recorder, put: quick.Put, step: int, branch: int) -> None:
    """As the agent does it: where there is no room the short way, the long one makes some."""
    if not put(step, branch, (float(step), 0.5)):
        recorder.log(step, branch, {"loss": float(step), "lr": 0.5})


def check(recorder: Recorder, wanted: dict[int, int]) -> None:
    """Per branch so many steps, each once, with their own values; every sequence number is there, and a daemon can read all of it."""
    found = records(recorder.directory / "s")
    assert sorted(r.seq for r in found) == list(range(1, recorder.written + 1))
    for branch, count in wanted.items():
        mine = sorted(r.step for r in found if isinstance(r, Point) and r.branch == branch)
        assert mine == list(range(count)), f"branch {branch}"
    assert all(r.values == (float(r.step), 0.5) for r in found if isinstance(r, Point) and r.branch in wanted)
    assert sorted(shipped(recorder, 3_000), key=lambda r: r.seq) == sorted(found, key=lambda r: r.seq)


# -- what it does --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4, quick.MOST])
def test_it_writes_what_the_long_way_writes(tmp_path, n):
    names = tuple(f"signal{i}" for i in range(n))
    values = [-0.0, 5e-324, math.nan, -math.inf, *(float(i) for i in range(n))][:n]
    both = []
    for folder in ("long", "short"):
        recorder = Recorder(tmp_path / folder, "s")
        recorder.log(0, 0, dict.fromkeys(names, 0.0))
        if folder == "long":
            recorder.log(2**62, 3, dict(zip(names, values, strict=True)))
        else:
            assert recorder.short_way(names)(2**62, 3, values)
        point = points(tmp_path / folder / "s")[-1]
        both.append((point.seq, point.step, point.branch, point.names, struct.pack(f"{n}d", *point.values)))
        recorder.close()
    assert both[0] == both[1]
    assert both[0][4] == struct.pack(f"{n}d", *values)


@pytest.mark.parametrize("value", [1, True, np.float64(0.5), np.float32(0.5), "1", None])
def test_other_numbers_than_floats_are_left_to_the_long_way(small, value):
    put = way(small)
    before = small.written
    assert not put(1, 0, (1.0, value))
    assert small.written == before


def test_names_that_were_not_logged_yet_or_are_too_many_have_no_short_way(small):
    assert small.short_way(NAMES) is None
    many = tuple(f"signal{i}" for i in range(quick.MOST + 1))
    small.log(0, 0, dict.fromkeys(many, 1.0))
    assert small.short_way(many) is None


def test_without_the_interpreters_lock_there_is_no_short_way(small, monkeypatch):
    small.log(0, 0, dict.fromkeys(NAMES, 1.0))
    assert small.short_way(NAMES) is not None
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert small.short_way(NAMES) is None


def test_a_full_segment_and_a_closed_recorder_take_nothing(small):
    put = way(small)
    written = 0
    while put(1, 0, (1.0, 0.5)):
        written += 1
    assert 0.3 < written * 56 / SMALL < 0.6, "half of it was given so far"
    small.log(1, 0, {"loss": 1.0, "lr": 0.5})
    assert put(1, 0, (1.0, 0.5)), "the long way made room"
    small.close()
    assert not put(1, 0, (1.0, 0.5))


def test_it_ships_when_that_is_due_and_not_from_inside_a_log(small):
    put, shipments = way(small), []
    small.ship, small.ship_at = lambda: shipments.append(small.written), 0
    small._depth = 1  # a handler that came in the midst of a log
    put(1, 0, (1.0, 0.5))
    assert shipments == []
    small._depth = 0
    put(2, 0, (2.0, 0.5))
    assert shipments == [small.written]
    small.ship_at = time.monotonic_ns() + 10**12
    put(3, 0, (3.0, 0.5))
    assert len(shipments) == 1


# -- nobody comes between ------------------------------------------------------------------------------------------------------

HARMLESS = {
    "BINARY_OP", "CACHE", "COMPARE_OP", "COPY", "LOAD_ATTR", "LOAD_CONST", "LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_LOAD_FAST",
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_SMALL_INT", "NOP", "NOT_TAKEN", "POP_JUMP_FORWARD_IF_FALSE", "POP_JUMP_IF_FALSE",
    "PRECALL", "PUSH_NULL", "STORE_ATTR", "STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST", "SWAP", "TO_BOOL",
    "EXTENDED_ARG",
}  # fmt: skip
"""Instructions behind which CPython lets neither a thread nor a signal handler in."""


def between(n: int, source: str = quick.SOURCE) -> list[str]:
    """The instructions from the first look at the place to the end of the last call of ``pack_into``, or to the place's taking."""
    found = list(dis.get_instructions(quick.code(n, source)))
    first = next(i for i, x in enumerate(found) if x.opname == "LOAD_ATTR" and x.argval == "_at")
    packing = next(i for i, x in enumerate(found) if x.argval == "pack_into" and i > first)
    calls = [i for i, x in enumerate(found) if x.opname.startswith("CALL") and i > packing]
    taken = max(i for i, x in enumerate(found) if x.opname == "STORE_ATTR")
    return [x.opname for x in found[first : max(calls[0], taken + 1)]]


@pytest.mark.parametrize("n", [1, 4, quick.MOST])
def test_no_instruction_from_the_place_to_the_record_lets_anybody_in(n):
    assert set(between(n)) <= HARMLESS


@pytest.mark.parametrize("how", WRONG)
def test_in_every_wrong_form_one_does(how):
    assert not set(between(2, wrong(how))) <= HARMLESS


class Intruder:
    """Comes once in a call of ``put``, at the ``k``-th of the places where CPython lets somebody in: where a function begins and behind a
    call."""

    def __init__(self, deed, k: int) -> None:
        self.deed, self.k, self.places, self.came = deed, k, 0, False
        self._last = ""

    def __call__(self, frame, event, arg):
        if frame.f_code.co_name != "put":
            return None
        frame.f_trace_opcodes = True
        if event == "call" or (event == "opcode" and self._last.startswith("CALL")):
            if self.places == self.k:
                self.came = True
                sys.settrace(None)
                self.deed()
            self.places += 1
        if event == "opcode":
            self._last = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        return self


AT_LEAST = 4
"""Such places in ``put``: where it begins, behind ``type`` of each of two values, the clock, and ``pack_into``."""


def intrude(recorder: Recorder, source: str, deed) -> int:
    """Puts until the intruder has been at every place; how many puts that were."""
    put, step = way(recorder, source=source), 0
    while True:
        intruder = Intruder(deed, step % 50)
        sys.settrace(intruder)
        try:
            one(recorder, put, step, 0)
        finally:
            sys.settrace(None)
        step += 1
        if not intruder.came:
            assert step > AT_LEAST
            return step


def in_a_thread(deed) -> None:
    thread = threading.Thread(target=deed)
    thread.start()
    thread.join()


class Writer:
    """Another thread, or a signal handler: writes a value by the short way, one by the long way, and an event. Ships, too: whatever a
    daemon gets must be readable."""

    def __init__(self, recorder: Recorder, threaded: bool) -> None:
        self.recorder, self.threaded, self.put, self.n, self.unread = recorder, threaded, way(recorder), 0, ""

    def __call__(self) -> None:
        in_a_thread(self.write) if self.threaded else self.write()

    def write(self) -> None:
        self.read()
        one(self.recorder, self.put, self.n, 1)
        self.recorder.log(self.n + 1, 1, {"loss": self.n + 1.0, "lr": 0.5})
        self.recorder.event(Remark(text="here"), 0, 0)
        self.n += 2
        self.read()

    def read(self) -> None:
        try:
            shipped(self.recorder, 3_000)
        except (GarbageError, AssertionError) as e:
            self.unread = str(e)


@pytest.mark.parametrize("threaded", [True, False])
def test_whoever_writes_at_any_of_the_places_costs_nobody_a_record(small, threaded):
    writer = Writer(small, threaded)
    steps = intrude(small, quick.SOURCE, writer)
    assert writer.unread == ""
    check(small, {0: steps, 1: writer.n})


@pytest.mark.parametrize("threaded", [True, False])
@pytest.mark.parametrize("how", WRONG)
def test_in_every_wrong_form_it_does(small, how, threaded):
    writer = Writer(small, threaded)
    steps = intrude(small, wrong(how), writer)
    if not writer.unread:
        with pytest.raises((AssertionError, GarbageError)):
            check(small, {0: steps, 1: writer.n})


def test_an_interrupt_at_any_of_the_places_leaves_a_record_or_a_hole(small):
    class Interrupt(BaseException):
        pass

    def interrupt() -> None:
        raise Interrupt

    put, step, interrupted = way(small), 0, 0
    while True:
        intruder = Intruder(interrupt, step)
        sys.settrace(intruder)
        try:
            put(step, 0, (float(step), 0.5))
        except Interrupt:
            interrupted += 1
        finally:
            sys.settrace(None)
        step += 1
        if not intruder.came:
            break
    assert interrupted == step - 1 > AT_LEAST
    assert small._holes == []
    one(small, put, step, 0)
    found = records(small.directory / "s")
    assert [r.seq for r in found] == list(range(1, small.written + 1))
    assert {r.step for r in found if isinstance(r, Point)} >= {step - 1, step}
    assert shipped(small, 3_000) == found


def test_what_is_interrupted_in_the_midst_of_packing_becomes_a_hole(small):
    """As a Python-level profiler's or debugger's hook would: CPython itself comes only before or behind it."""
    put = way(small, source=wrong("a call between taking and packing"))
    for step in range(20):
        intruder = Intruder(lambda: (_ for _ in ()).throw(KeyboardInterrupt), step)
        sys.settrace(intruder)
        try:
            put(step, 0, (float(step), 0.5))
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
    found = records(small.directory / "s")
    assert [r.seq for r in found] == list(range(1, small.written + 1))
    assert any(isinstance(r, Happening) and r.step == 0 and r.branch == 0 for r in found), "a hole"
    assert shipped(small, 3_000) == found


# -- and for real --------------------------------------------------------------------------------------------------------------


def hammer(recorder: Recorder, source: str, seconds: float) -> dict[int, int]:
    """Threads that write in both ways and ship, with the interpreter's lock passed on as often as it can be; how much each wrote."""
    counts, unread, end = {}, [], time.monotonic() + seconds
    started = threading.Barrier(4)

    def write(branch: int) -> None:
        put, step = quick.make(recorder, 2, recorder._schemas[NAMES][1], recorder._ship, recorder._holes, recorder._fill_holes, source), 0
        started.wait()
        while step < 200 or (step < 20_000 and time.monotonic() < end):  # some in any case, whoever else has the cores
            for _ in range(50):
                one(recorder, put, step, branch)
                step += 1
        counts[branch] = step

    def ship() -> None:
        cursor = 1
        started.wait()
        while len(counts) < 3:
            recorder.prepare()
            stretch = recorder.stretch(cursor, 3_000)
            if stretch is None:
                continue
            try:
                schemas = {number: tuple(names) for number, names in stretch.header.schemas.items()}
                decode_stream(stretch.raw, schemas, stretch.header.first, stretch.header.count)
            except GarbageError as e:
                unread.append(e)
                break
            cursor = stretch.after

    recorder.log(0, 7, dict.fromkeys(NAMES, 0.0))
    threads = [threading.Thread(target=write, args=(b,)) for b in range(3)] + [threading.Thread(target=ship)]
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(old)
    assert unread == []
    return counts


def test_threads_lose_nothing(small):
    counts = hammer(small, quick.SOURCE, 1.0)
    assert min(counts.values()) > 100
    check(small, counts)


@pytest.mark.slow
def test_threads_lose_nothing_for_long(tmp_path):
    recorder = Recorder(tmp_path, "s", segment_bytes=64 * 1024)
    counts = hammer(recorder, quick.SOURCE, 60.0)
    check(recorder, counts)
    recorder.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", WRONG)
def test_with_a_wrong_form_they_do(tmp_path, how):
    """The threads would show it, if not in every second."""
    deadline = time.monotonic() + 300
    for i in range(1_000_000):
        recorder = Recorder(tmp_path / str(i), "s", segment_bytes=SMALL)
        try:
            check(recorder, hammer(recorder, wrong(how), 1.0))
        except (AssertionError, GarbageError):
            return
        finally:
            recorder.close()
        assert time.monotonic() < deadline, "never seen"


@pytest.mark.parametrize("raising", [False, True])
def test_signal_handlers_that_log_or_raise_cost_nothing(small, raising):
    class Interrupt(BaseException):
        pass

    handled = 0
    put = way(small)

    def handler(*_: object) -> None:
        nonlocal handled
        one(small, put, handled, 1)
        handled += 1
        if raising:
            raise Interrupt

    old = signal.signal(signal.SIGALRM, handler)
    deadline = time.monotonic() + 60
    step, returned, seen = 0, [], 0
    try:
        while handled < 400 and time.monotonic() < deadline:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-6, 1e-4))
                while handled == seen:
                    step += 1
                    one(small, put, step - 1, 0)
                    returned.append(step - 1)
            except Interrupt:
                pass
            seen = handled
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert handled >= 400
    if raising:
        found = records(small.directory / "s")
        assert set(returned) <= {r.step for r in found if isinstance(r, Point) and r.branch == 0}
        assert len(shipped(small, 3_000)) == small.written, "contiguous for the daemon"
    else:
        check(small, {0: step, 1: handled})
