"""The daemon's end of the clients' socket."""


import shutil
import stat

import msgspec
import zmq

from sitter.control.agent_link import AgentLink
from sitter.control.client_link import GONE_AFTER_S, OWED_S, ClientLink
from sitter.testing.manual_clock import ManualClock
from sitter_wire import codec
from sitter_wire.messages import Ping
from sitter_wire.places import Endpoints
from sitter_wire.queries import GetStatus, Request


def test_clients_that_have_left_leave_nothing_behind(tmp_path):
    context, clock = zmq.Context(), ManualClock()
    places = Endpoints(tmp_path)
    clients = ClientLink(context, places, clock, lambda query, answer: answer(None))
    for number in range(20):
        client = context.socket(zmq.DEALER)
        client.connect(Endpoints.url(places.client))
        client.send(codec.encode(Request(id=number, query=GetStatus())))
        assert clients.socket.poll(60_000)
        clients.take()
        assert client.poll(60_000)
        client.close(0)
        clock.advance(GONE_AFTER_S / 2)
    assert len(clients._seen) <= 2
    assert clients.present() == 1
    clients.close()
    context.destroy(0)


def test_a_socket_that_somebody_has_replaced_is_bound_again(tmp_path):
    tmp_path.chmod(0o700)
    context, places = zmq.Context(), Endpoints(tmp_path / "sockets")
    places.create()
    came = []
    link = AgentLink(context, places, on_shipment=lambda *_: None, on_message=came.append)
    assert link.rebind_lost() == []
    places.agent.unlink()
    stranger = context.socket(zmq.ROUTER)  # a second bind on a path succeeds silently
    stranger.bind(Endpoints.url(places.agent))
    assert link.rebind_lost() == ["agent"]
    assert link.rebind_lost() == []
    agent = context.socket(zmq.DEALER)
    agent.setsockopt(zmq.IDENTITY, b"agent")
    agent.connect(Endpoints.url(places.agent))
    agent.send_multipart(codec.frames(Ping(incarnation="x", n=1)))
    assert link.agent.poll(60_000)
    link.take_messages()
    assert len(came) == 1
    for each in (agent, stranger):
        each.close(0)
    link.close()
    context.destroy(0)


def test_the_whole_runtime_directory_may_be_cleaned_away(tmp_path):
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    context, places = zmq.Context(), Endpoints(runtime / "run")
    places.create()
    link = AgentLink(context, places, on_shipment=lambda *_: None, on_message=lambda _: None)
    shutil.rmtree(runtime)
    assert link.rebind_lost() == ["data", "agent"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (runtime, places.directory)] == [0o700, 0o700]
    shutil.rmtree(runtime)
    runtime.mkdir(mode=0o777)
    runtime.chmod(0o777)
    assert link.rebind_lost() == [], "anybody could put a socket there"
    link.close()
    context.destroy(0)


def test_what_is_not_understood_is_refused_where_it_says_which_question_it_was(tmp_path):
    context = zmq.Context()
    places = Endpoints(tmp_path)
    clients = ClientLink(context, places, ManualClock(), lambda query, answer: answer(None))
    client = context.socket(zmq.DEALER)
    client.connect(Endpoints.url(places.client))
    client.send(msgspec.msgpack.encode({"id": 7, "query": {"q": "of a later version"}}))
    assert clients.socket.poll(60_000)
    clients.take()
    assert client.poll(60_000)
    reply = codec.reply(client.recv())
    assert reply.id == 7
    assert reply.usage
    assert "does not understand" in reply.error
    assert clients.garbage == {"unknown": 1}
    client.close(0)
    clients.close()
    context.destroy(0)


def test_a_place_for_sockets_that_is_gone_for_good_does_not_end_the_daemon(tmp_path, caplog):
    context, places = zmq.Context(), Endpoints(tmp_path / "sockets")
    places.create()
    link = AgentLink(context, places, on_shipment=lambda *_: None, on_message=lambda _: None)
    for path in sorted(places.directory.iterdir()):
        path.unlink()
    places.directory.rmdir()
    places.directory.write_text("somebody's file")
    for _ in range(5):
        assert link.rebind_lost() == []
    assert caplog.text.count("the sockets' place is gone") == 1, "once, not every 10 s"
    link.close()
    context.destroy(0)


def test_who_waits_for_an_answer_is_there_until_it_has_it(tmp_path):
    context, clock, answers = zmq.Context(), ManualClock(), []
    places = Endpoints(tmp_path)
    clients = ClientLink(context, places, clock, lambda query, answer: answers.append(answer))
    client = context.socket(zmq.DEALER)
    client.connect(Endpoints.url(places.client))
    client.send(codec.encode(Request(id=1, query=GetStatus())))
    assert clients.socket.poll(60_000)
    clients.take()
    clock.advance(3 * GONE_AFTER_S)
    assert clients.present() == 1, "a stop may take longer"
    answers[0](None)
    assert client.poll(60_000)
    clock.advance(GONE_AFTER_S / 2)
    assert clients.present() == 1, "nobody leaves together with the answer"
    clock.advance(GONE_AFTER_S)
    assert clients.present() == 0
    client.send(codec.encode(Request(id=2, query=GetStatus())))
    assert clients.socket.poll(60_000)
    clients.take()
    clock.advance(OWED_S)
    assert clients.present() == 0, "what is never answered keeps no daemon for ever"
    client.close(0)
    clients.close()
    context.term()
