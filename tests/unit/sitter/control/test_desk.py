"""The daemon's end of the clients' socket."""

import zmq

from sitter.control.agent_link import AgentLink
from sitter.control.desk import GONE_AFTER_S, Desk
from sitter.testing.manual_clock import ManualClock
from sitter_wire import codec
from sitter_wire.places import Endpoints
from sitter_wire.queries import GetStatus, Request


def test_clients_that_have_left_leave_nothing_behind(tmp_path):
    context, clock = zmq.Context(), ManualClock()
    places = Endpoints(tmp_path)
    desk = Desk(context, places, clock, lambda query, answer: answer(None))
    for number in range(20):
        client = context.socket(zmq.DEALER)
        client.connect(Endpoints.url(places.client))
        client.send(codec.encode(Request(id=number, query=GetStatus())))
        assert desk.socket.poll(2000)
        desk.take()
        assert client.poll(2000)
        client.close(0)
        clock.advance(GONE_AFTER_S / 2)
    assert len(desk._seen) <= 2
    assert desk.clients() == 1
    desk.close()
    context.destroy(0)


def test_a_place_for_sockets_that_is_gone_for_good_does_not_end_the_daemon(tmp_path):
    context, places = zmq.Context(), Endpoints(tmp_path / "sockets")
    places.create()
    link = AgentLink(context, places, on_shipment=lambda *_: None, on_message=lambda _: None)
    for path in sorted(places.directory.iterdir()):
        path.unlink()
    places.directory.rmdir()
    places.directory.write_text("somebody's file")
    assert link.rebind_lost() == []
    link.close()
    context.destroy(0)
