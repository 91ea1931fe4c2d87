"""What the agent is told, and before what."""

from types import SimpleNamespace

import pytest
import zmq

from sitter.control.agent_link import AgentLink
from sitter.control.heart import Heart
from sitter.control.orders import Orders
from sitter.rules.clearance import Clearance
from sitter.testing.manual_clock import ManualClock
from sitter_wire import codec
from sitter_wire.commands import Outcome, Rollback, SetKnob
from sitter_wire.messages import Ack, Answer, Order, Ping
from sitter_wire.places import Endpoints


@pytest.fixture
def heart(tmp_path):
    """A heart on real sockets, with an agent at their other end: (heart, clearance, clock, what the agent hears next)."""
    places = Endpoints(tmp_path / "s")
    places.create()
    context, clock, clearance = zmq.Context(), ManualClock(), Clearance()
    clearance.begin(0, 0)
    link = AgentLink(context, places, on_shipment=lambda *_: None, on_message=lambda _: None)
    core = SimpleNamespace(
        present=SimpleNamespace(session=SimpleNamespace(id="s")), life=SimpleNamespace(alive=True),
        intake=SimpleNamespace(wanted=lambda session: 1, holes=set()), engine=SimpleNamespace(clear=lambda: clearance.clear),
    )  # fmt: skip
    agent = context.socket(zmq.DEALER)
    agent.setsockopt(zmq.IDENTITY, b"agent")
    agent.setsockopt(zmq.RCVTIMEO, 60_000)
    agent.connect(Endpoints.url(places.agent))
    agent.send(b"here")
    link.agent.poll(60_000)
    link.take_messages()
    yield Heart("i", core, link, clock), clearance, clock, lambda: codec.message(agent.recv_multipart())
    agent.close(0)
    link.close()
    context.term()


def points(clearance, steps):
    for step in steps:
        clearance.point(step, odd=False, open_trip=False)


def test_before_it_goes_back_the_agent_hears_what_is_clear_by_now(heart):
    heart, clearance, clock, heard = heart
    points(clearance, range(10))
    heart.ack()
    assert heard().clear == (0, 6)
    points(clearance, range(10, 20))  # within the time in which no other acknowledgement is due
    Orders(clock, heart.order).give(Rollback(before=15), session="s", by="rule:guard")
    first, second = heard(), heard()
    assert isinstance(first, Ack)
    assert first.clear == (0, 16)
    assert isinstance(second, Order)


def test_no_other_order_brings_an_acknowledgement_with_it(heart):
    heart, clearance, clock, heard = heart
    points(clearance, range(10))
    Orders(clock, heart.order).give(SetKnob(knob="lr", op="scale", amount=0.5), session="s", by="operator")
    assert isinstance(heard(), Order)


def test_what_was_committed_at_leisure_is_acknowledged_with_the_next_ping(heart):
    heart, _, clock, heard = heart
    heart.ack()
    assert heard().committed == 0
    clock.advance(1.0)
    heart.committed({"s": 7}, at_leisure=True)
    assert heart.wait_ms(700) == 700  # nothing wakes for it
    heart.ack_if_due()
    heart.ping()
    heart.ack_if_due()
    first, second = heard(), heard()
    assert isinstance(first, Ping)
    assert isinstance(second, Ack)
    assert second.committed == 7
    heart.committed({"s": 9})
    assert heart.wait_ms(700) <= 201


def test_an_order_that_found_nobody_goes_with_the_agents_first_word():
    clock, sent = ManualClock(), []
    orders = Orders(clock, lambda command: sent.append(command) or len(sent) > 1)
    heart = Heart("i", SimpleNamespace(orders=orders, flow=SimpleNamespace(outcome=lambda outcome: None)), None, clock)
    command = orders.give(Rollback(before=15), session="s", by="operator")
    heart.message(Answer(outcome=Outcome(id="another", status="applied", step=1, branch=0, text="")))
    assert sent == [command, command]
