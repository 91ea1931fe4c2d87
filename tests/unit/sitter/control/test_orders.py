"""A command ends applied, rejected or expired; silence is never success."""

import msgspec

from sitter.control.orders import GRACE_S, ORDERS, RESEND_S, Orders
from sitter.testing.manual_clock import ManualClock
from sitter_wire.commands import DumpStacks, Outcome, Pause, SetKnob

HALVE = SetKnob(knob="lr", op="scale", amount=0.5)


def outcome(command, status="applied"):
    return Outcome(id=command.id, status=status, step=3, branch=0, text="done")


def make():
    clock, sent = ManualClock(), []
    return clock, sent, Orders(clock, lambda command: sent.append(command) or True)


def test_an_order_is_sent_again_until_it_is_answered_and_only_its_id_tells_that_it_is_the_same():
    clock, sent, orders = make()
    command = orders.give(HALVE, session="s", by="operator")
    clock.advance(RESEND_S)
    orders.tick()
    assert sent == [command, command]
    orders.outcome(outcome(command))
    clock.advance(RESEND_S)
    orders.tick()
    assert len(sent) == 2


def test_what_waits_for_the_disk_is_not_sent_before_it_is_there_however_long_that_takes():
    clock, sent, orders = make()
    safe = []
    command = orders.give(HALVE, session="s", by="rule:mine", when_safe=safe.append)
    clock.advance(3 * RESEND_S)
    orders.tick()
    orders.agent_is_there()
    assert sent == []
    safe[0]()
    orders.tick()
    assert sent == [command]
    clock.advance(RESEND_S)
    orders.tick()
    assert sent == [command, command]


def test_the_second_way_of_an_outcome_is_no_news():
    _, _, orders = make()
    told = []
    command = orders.give(HALVE, session="s", by="operator", done=told.append)
    assert orders.outcome(outcome(command)) is command
    assert orders.outcome(outcome(command)) is None
    assert len(told) == 1


def test_past_its_deadline_it_is_not_sent_again_and_its_asker_learns_that_nobody_answered():
    clock, sent, orders = make()
    told = []
    orders.give(HALVE, session="s", by="operator", wait=10.0, done=told.append)
    clock.advance(10.0 + GRACE_S / 2)
    orders.tick()
    assert len(sent) == 1
    assert told == []
    clock.advance(GRACE_S)
    orders.tick()
    assert told == [None]


def test_what_a_dead_process_has_not_answered_has_expired():
    _, _, orders = make()
    told = []
    orders.give(HALVE, session="s", by="operator", done=told.append)
    other = orders.give(Pause(), session="next", by="operator")
    over = orders.over({"next"}, 7, 0)
    assert [o.status for _, o in over] == ["expired"]
    assert told[0].status == "expired"
    assert [s.command for s in orders.standing()] == [other]


def test_what_found_nobody_there_goes_as_soon_as_the_agent_speaks_and_only_once():
    clock, sent, there = ManualClock(), [], []
    orders = Orders(clock, lambda command: sent.append(command) or bool(there))
    command = orders.give(HALVE, session="s", by="rule:guard")
    there.append(True)
    clock.advance(0.05)
    orders.agent_is_there()
    orders.agent_is_there()
    assert sent == [command, command]


def successor(clock, kept, told=None):
    """The orders of the next process, from what the history gives back, and what it sends."""
    sent = []
    orders = Orders(clock, lambda command: sent.append(command) or True)
    orders.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(kept)), lambda order: (told or []).append)
    return orders, sent


def test_what_one_process_gave_the_next_one_sends_again_and_learns_the_outcome_of():
    clock, kept, told = ManualClock(), {}, []
    before = Orders(clock, lambda command: False, kept.__setitem__)
    command = before.give(HALVE, session="s", by="rule:guard")
    before.give(DumpStacks(), session="s", by="rule:stalled")
    told.append("before")
    orders, sent = successor(clock, kept[ORDERS], told)
    orders.agent_is_there()
    assert sent == [command]
    assert orders.outcome(outcome(command)) == command
    assert [t if t == "before" else t.status for t in told] == ["before", "applied"]


def test_what_was_answered_is_no_news_to_the_next_process_either():
    clock, kept = ManualClock(), {}
    before = Orders(clock, lambda command: True, kept.__setitem__)
    command = before.give(HALVE, session="s", by="operator")
    before.outcome(outcome(command))
    orders, _ = successor(clock, kept[ORDERS])
    assert orders.standing() == []
    assert orders.known(command.id)


def test_past_its_deadline_the_next_process_does_not_send_it_again():
    clock, kept, told = ManualClock(), {}, ["before"]
    Orders(clock, lambda command: True, kept.__setitem__).give(HALVE, session="s", by="operator", wait=10.0)
    clock.advance(10.0 + 2 * GRACE_S)
    orders, sent = successor(clock, kept[ORDERS], told)
    orders.agent_is_there()
    orders.tick()
    assert sent == []
    assert told == ["before", None]


def test_an_order_of_another_version_hinders_no_other():
    clock, kept = ManualClock(), {}
    command = Orders(clock, lambda command: True, kept.__setitem__).give(HALVE, session="s", by="operator")
    old = {"standing": [{"command": {"do": "dance"}, "given": 1.0}, *kept[ORDERS]["standing"]]}
    orders, _ = successor(clock, old)
    assert [s.command for s in orders.standing()] == [command]
