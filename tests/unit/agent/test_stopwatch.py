"""What our own work is said to cost."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sitter_agent import stopwatch
from sitter_agent.stopwatch import Stopwatch, preemptions


def busy_until(what: Callable[[], bool]) -> None:
    """Use the core until it is so."""
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "never so"
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux pins processes and counts preemptions")
def test_what_another_process_does_on_our_core_is_not_our_cost():
    everywhere = os.sched_getaffinity(0)
    other = 0
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        other = os.posix_spawn("/bin/sh", ["/bin/sh", "-c", "while :; do :; done"], {})
        lost, began, watch = preemptions(), time.monotonic(), Stopwatch()
        # Some preemptions are short ones, of others.
        busy_until(lambda: preemptions() >= lost + 10 and watch.seconds() < 0.8 * (time.monotonic() - began))
    finally:
        os.sched_setaffinity(0, everywhere)
        if other:
            os.kill(other, 9)
            os.waitpid(other, 0)


def test_waiting_with_the_core_kept_counts(monkeypatch):
    monkeypatch.setattr(stopwatch, "preemptions", lambda: 0)
    watch = Stopwatch()
    time.sleep(0.02)  # as for a device
    assert watch.seconds() >= 0.02


def test_a_clock_of_ones_own_is_believed(monkeypatch):
    counts = iter(range(10))
    monkeypatch.setattr(stopwatch, "preemptions", lambda: next(counts))
    now = 1.0
    watch = Stopwatch(lambda: now)
    now = 4.0
    assert watch.seconds() == 3.0


def test_what_a_snapshot_leaves_behind_is_what_the_next_turns_cost_more(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "thread_time", lambda: now[0])
    after = stopwatch.Aftermath()
    assert after.seconds() == 0.0
    for odd in (0.0, 0.5, 0.0):  # one look in which the script did something else
        after.begin()
        for turn in (0.0013, 0.0011 + odd, 0.001, 0.001, 0.001, 0.001):
            assert after.going
            now[0] += turn
            after.turn()
        assert not after.going
    assert after.seconds() == pytest.approx(0.0004)


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="this system does not say")
def test_how_long_this_thread_waited_for_its_core_is_known_where_the_system_says_it():
    everywhere = os.sched_getaffinity(0)
    other = 0
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        other = os.posix_spawn("/bin/sh", ["/bin/sh", "-c", "while :; do :; done"], {})
        lost, began, before = preemptions(), time.monotonic(), stopwatch.waited()
        busy_until(lambda: preemptions() >= lost + 10 and stopwatch.waited() - before > 0.2 * (time.monotonic() - began))
        waited, wall = stopwatch.waited() - before, time.monotonic() - began
    finally:
        os.sched_setaffinity(0, everywhere)
        if other:
            os.kill(other, 9)
            os.waitpid(other, 0)
    assert waited < wall


def test_where_the_system_does_not_say_nobody_waited(monkeypatch):
    def refuse(*a: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", refuse)
    assert stopwatch.waited() == 0.0
