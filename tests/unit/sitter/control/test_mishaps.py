"""One task that fails ends neither the daemon nor the tasks beside it, and the status says so."""

import time
from types import SimpleNamespace

import pytest
import zmq

from sitter.control import mishaps
from sitter.control.agent_link import AGENT, AgentLink
from sitter.control.inbox import Inbox
from sitter.control.timers import Timers
from sitter.testing.manual_clock import ManualClock
from sitter.wiring import Daemon
from sitter_wire import codec
from sitter_wire.messages import Ping, ShipmentHeader
from sitter_wire.places import Endpoints

SECOND = ("early", "heart", "slept", "core", "stops", "ending", "succession")
"""Parts of the daemon, in the order of their turns."""


@pytest.fixture(autouse=True)
def none_yet(monkeypatch):
    monkeypatch.setattr(mishaps, "_seen", {})


def fails():
    raise RuntimeError("a bug")


def test_by_the_clock():
    clock, ran = ManualClock(), []
    timers = Timers(clock)
    timers.every(1.0, fails)
    timers.every(1.0, lambda: ran.append(1))
    for _ in range(3):
        clock.advance(1.0)
        timers.run()
    assert len(ran) == 3
    (sentence,) = mishaps.mishaps()
    assert "failed 3 times" in sentence
    assert "a bug" in sentence


def test_from_another_thread():
    inbox, ran = Inbox(), []
    inbox.post(fails)
    inbox.post(lambda: ran.append(1))
    inbox.run()
    assert ran == [1]
    assert mishaps.mishaps()
    inbox.close()


def test_kinds_without_end_are_not_kept(caplog):
    for number in range(1000):
        code = compile("\n" * number + "raise RuntimeError('here')", "made", "exec")  # each in a line of its own
        mishaps.guarded(lambda code=code: exec(code, {}))
    assert len(mishaps._seen) == mishaps.KINDS + 1
    assert caplog.text.count("a task of the daemon failed") == mishaps.KINDS
    (sentence,) = mishaps.mishaps()
    assert "failed 1000 times" in sentence


def test_an_error_that_quotes_what_came_is_of_one_kind(caplog):
    def fail(number):
        raise ValueError(f"cannot read {number}")

    for number in range(200):
        assert not mishaps.guarded(lambda number=number: fail(number))
    assert caplog.text.count("a task of the daemon failed") == 1
    (sentence,) = mishaps.mishaps()
    assert "200 times" in sentence
    assert "cannot read 199" in sentence, "the last of them is told"


def test_from_the_agents_side(tmp_path, caplog):
    """What the agent's messages do to us; the ones behind have their turn."""
    context, places, came = zmq.Context(), Endpoints(tmp_path / "sockets"), []

    def message(said):
        came.append(said.n)
        raise KeyError(said.n)

    def shipment(header, raw):
        came.append(header.first)
        raise TypeError(header.first)

    tmp_path.chmod(0o700)
    places.create()
    link = AgentLink(context, places, on_shipment=shipment, on_message=message)
    dealer, push = context.socket(zmq.DEALER), context.socket(zmq.PUSH)
    dealer.setsockopt(zmq.IDENTITY, AGENT)
    dealer.connect(Endpoints.url(places.agent))
    push.connect(Endpoints.url(places.data))
    for n in range(1, 4):
        dealer.send_multipart(codec.frames(Ping(incarnation="x", n=n)))
        push.send_multipart(codec.shipment_frames(ShipmentHeader(session="s", first=10 * n, count=1), b"."))
    until = time.monotonic() + 60
    while len(came) < 6 and time.monotonic() < until:
        if link.agent.poll(20):
            link.take_messages()
        if link.data.poll(20):
            link.take_shipments()
    assert sorted(came) == [1, 2, 3, 10, 20, 30]
    assert caplog.text.count("a task of the daemon failed") == 2, "once a kind"
    (sentence,) = mishaps.mishaps()
    assert "failed 6 times" in sentence
    assert not link.garbage, "our fault, not theirs"
    for socket in (dealer, push):
        socket.close(0)
    link.close()
    context.destroy(0)


def test_one_is_called_once():
    mishaps.guarded(fails)
    assert mishaps.mishaps() == ["the daemon failed once in a task of its own (RuntimeError: a bug, once); see its daemon.log"]


@pytest.mark.parametrize("bad", ["held", "heart", "slept", "core", "stops", "ending"])
def test_every_second_one_part_takes_its_turn_from_none_of_the_others(bad):
    done = []
    part = {name: (fails if name == bad else lambda name=name: done.append(name)) for name in SECOND}
    daemon = SimpleNamespace(
        **{name: SimpleNamespace(tick=part[name], look=part[name], ping=part[name]) for name in SECOND},
        _watch_process=lambda: done.append("process"), _leave=lambda: done.append("leave"),
    )  # fmt: skip
    Daemon._second(daemon)
    assert done == [name for name in (*SECOND[:4], "process", *SECOND[4:], "leave") if name != bad]
