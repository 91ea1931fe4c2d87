"""What makes the daemon's loop wake, and what does not."""

import itertools
import select
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from sitter.control import mishaps
from sitter.control.inbox import Inbox
from sitter.control.loop import BEHIND_RECORDS_S, FAILED_MOST_S, Loop
from sitter.control.timers import Timers
from sitter.testing.manual_clock import ManualClock


def readable(inbox):
    return bool(select.select([inbox.fileno()], [], [], 0)[0])


def test_what_is_posted_wakes_the_loop_and_what_is_left_waits_for_it():
    inbox, ran = Inbox(), []
    inbox.leave(lambda: ran.append("left"))
    assert inbox.waiting()
    assert not readable(inbox)
    inbox.post(lambda: ran.append("posted"))
    assert readable(inbox)
    inbox.clear()
    inbox.run()
    assert ran == ["left", "posted"]
    assert not readable(inbox)
    assert not inbox.waiting()
    inbox.close()


def beats(*, every, first=0.0, seconds=60):
    """When a task of once a second ran in a loop to which shipments come so often, as a real loop hears of them."""
    clock = ManualClock()
    timers, ran, began = Timers(clock), [], clock.monotonic()
    inbox = Inbox()
    loop = Loop(clock, inbox, timers)
    loop._heart = SimpleNamespace(shipment=lambda header, raw: None)
    loop.beat = timers.every(1.0, lambda: ran.append(round(clock.monotonic() - began, 3)))
    arrivals = {round(first + every * i, 3) for i in range(1, int(seconds / every))}
    for _ in range(seconds * 1000):
        clock.advance(0.001)
        if round(clock.monotonic() - began, 3) in arrivals:
            loop.shipment(None, b"")
        timers.run()
    inbox.close()
    return ran, arrivals


def gaps(ran):
    return [b - a for a, b in itertools.pairwise(ran)]


def test_by_itself_it_beats_once_a_second():
    ran, _ = beats(every=1000)
    assert 58 <= len(ran) <= 60
    assert all(0.99 <= gap <= 1.01 for gap in gaps(ran))


@pytest.mark.parametrize("first", [0.0, 0.1, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("every", [1.0, 0.98, 1.03])
def test_beside_records_that_come_once_a_second_it_follows_them(first, every):
    ran, arrivals = beats(every=every, first=first)
    followed = [t for t in ran[4:-1] if any(abs(t - a - BEHIND_RECORDS_S) < 0.003 for a in arrivals)]
    assert len(followed) >= 0.9 * len(ran[4:-1])
    assert len(ran) <= 63
    assert max(gaps(ran)) <= 1.16


def test_what_was_left_behind_by_slow_steps_is_fetched_after_each():
    ran, arrivals = beats(every=3.0, first=0.2)
    assert all(any(abs(t - a - BEHIND_RECORDS_S) < 0.003 for t in ran) for a in arrivals)
    assert len(ran) <= 81  # a beat more a step, at most


def test_beside_quick_records_it_still_beats_once_a_second():
    for every in (0.01, 0.1, 0.3):
        ran, _ = beats(every=every)
        assert all(0.99 <= gap <= 1.01 for gap in gaps(ran[1:])), every


def test_a_part_that_fails_takes_its_turn_from_no_other_and_does_not_spin(monkeypatch, caplog):
    monkeypatch.setattr(mishaps, "_seen", {})
    slept, ran = [], []
    mine, sleep = threading.get_ident(), time.sleep

    def sleeps(seconds):  # the module's own is everybody's: another thread of this process may be asleep as well
        (slept.append if threading.get_ident() == mine else sleep)(seconds)

    monkeypatch.setattr("sitter.control.loop.time.sleep", sleeps)

    def fails(*_):
        raise RuntimeError("a bug")

    clock, inbox = ManualClock(), Inbox()
    timers = Timers(clock)
    timers.every(0.0, lambda: ran.append("timer"))
    loop = Loop(clock, inbox, timers)
    ours, theirs = socket.socketpair()
    theirs.send(b"x")  # readable for ever, since whoever should take it fails
    link = SimpleNamespace(agent=ours.fileno(), data=ours.fileno(), take_messages=fails, take_shipments=fails)
    clients = SimpleNamespace(socket=ours.fileno(), take=lambda: ran.append("clients"))
    loop.begin(link, clients, SimpleNamespace(wait_ms=lambda ms: 0, ack_if_due=fails))
    inbox.post(lambda: ran.append("inbox"))
    for _ in range(100):
        assert loop.turn()
    assert ran.count("timer") == ran.count("clients") == 100
    assert ran.count("inbox") == 1
    assert slept[0] <= 0.02
    assert slept[-1] == FAILED_MOST_S
    assert caplog.text.count("a task of the daemon failed") == 1
    loop._poller = SimpleNamespace(poll=fails)
    assert not loop.turn(), "not even the wait itself ends it"
    for each in (ours, theirs):
        each.close()
    inbox.close()
