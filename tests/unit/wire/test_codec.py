"""What both sides say: every message comes back as it was, and garbage is told apart without harm."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitter_wire import codec
from sitter_wire.commands import Command, Outcome, Pause, Rollback, SetKnob, Stop, Unpause
from sitter_wire.messages import MAX_FRAME, PROTOCOL, Ack, Answer, Hello, Order, Ping, Pong, ShipmentHeader, Stacks
from sitter_wire.queries import Act, GetStatus, Reply, Request

OTHER = str(PROTOCOL + 1).encode()
PONG = Pong(session="s", n=1, pid=2, step=3, micro=4, branch=0, safe_point_at=1.5, written=9, dropped=0)


def order(action) -> Order:
    return Order(command=Command(id="a", session="s", action=action, deadline=1.0))


@pytest.mark.parametrize(
    "message",
    [
        Hello(session="s", pid=1, version="0.1", branch=0, step=0),
        Ping(incarnation="x", n=3),
        PONG,
        Ack(incarnation="x", session="s", wanted=4, committed=3, hole=True, clear=(1, 200)),
        order(SetKnob(knob="lr", op="scale", amount=0.5)),
        order(Rollback(before=3, also_scale={"lr": 0.3})),
        Answer(outcome=Outcome(id="a", status="applied", step=3, branch=0, text="ok", detail={"old": math.inf, "why": None})),
        Stacks(id="a", text="Thread 1"),
    ],
)
def test_a_message_comes_back_as_it_was(message):
    assert codec.message(codec.frames(message)) == message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324])
def test_numbers_survive_that_json_would_lose(value):
    sent = Answer(outcome=Outcome(id="a", status="applied", step=0, branch=0, text="", detail={"x": value}))
    got = codec.message(codec.frames(sent)).outcome.detail["x"]
    assert math.isnan(got) if math.isnan(value) else (got == value and math.copysign(1, got) == math.copysign(1, value))


@pytest.mark.parametrize("action", [Pause(), Unpause(), Stop()])
def test_what_is_frozen_is_understood_from_another_version(action):
    assert codec.message([OTHER, codec.frames(order(action))[1]]).command.action == action
    assert codec.message([OTHER, codec.frames(PONG)[1]]) == PONG


@pytest.mark.parametrize(
    "message",
    [
        PONG,
        Hello(session="s", pid=1, version="9.0", branch=0, step=0),
        Ack(incarnation="x", session="s", wanted=4, committed=3),
        order(Pause()),
        Answer(outcome=Outcome(id="a", status="applied", step=3, branch=0, text="ok")),
    ],
)
def test_fields_that_another_version_has_more_are_passed_over(message):
    def more(value):
        """In every struct, but not in a dict of anybody's words."""
        if not isinstance(value, dict):
            return value
        return {**{k: v if k == "detail" else more(v) for k, v in value.items()}, "of_tomorrow": [1, {"a": None}]}

    told = msgspec.msgpack.encode(more(msgspec.to_builtins(message)))
    assert codec.message([OTHER, told]) == message
    header = ShipmentHeader(session="s", first=7, count=2, schemas={2: ["loss"]})
    told = msgspec.msgpack.encode({**msgspec.to_builtins(header), "of_tomorrow": 1})
    assert codec.shipment([OTHER, told, b"raw"]) == (header, b"raw")


def test_what_is_not_frozen_is_refused_with_both_versions_named():
    with pytest.raises(codec.VersionMismatchError, match=rf"protocol {PROTOCOL + 1} .* speaks {PROTOCOL}"):
        codec.message([OTHER, codec.frames(order(Rollback()))[1]])


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([], "malformed"),
        ([b"1"], "malformed"),
        ([b"", b""], "malformed"),
        ([b"one", b"\x80"], "malformed"),
        ([b"1", b"\xc1"], "malformed"),
        ([b"1", b""], "malformed"),
        ([b"1", msgspec.msgpack.encode({"m": "nonsense"})], "unknown"),
        ([b"1", msgspec.msgpack.encode({"m": "ping", "incarnation": 3, "n": "x"})], "unknown"),
        ([b"1", b"\x91" * 100_000 + b"\x01"], "malformed"),
        ([b"1", bytes(MAX_FRAME + 1)], "oversized"),
    ],
)
def test_garbage_has_a_kind(parts, kind):
    with pytest.raises(codec.GarbageError) as raised:
        codec.message(parts)
    assert raised.value.kind in (kind, "unknown")


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_nothing_but_garbage_error_comes_of_any_bytes(parts):
    for decode in (codec.message, codec.shipment):
        try:
            decode(parts)
        except codec.GarbageError:
            continue
    for part in parts:
        for decode_one in (codec.request, codec.reply):
            try:
                decode_one(part)
            except codec.GarbageError:
                continue


plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.binary()


@given(st.recursive(plain, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=20))
def test_well_formed_messages_of_the_wrong_shape_are_told_apart(value):
    payload = msgspec.msgpack.encode(value)
    with pytest.raises(codec.GarbageError):
        codec.message([codec.VERSION_FRAME, payload])


def test_shipments_carry_their_raw_bytes_untouched():
    header = ShipmentHeader(session="s", first=7, count=2, schemas={2: ["loss"]}, clock=(1, 2), lost_from=5)
    assert codec.shipment([bytes(p) for p in codec.shipment_frames(header, b"raw")]) == (header, b"raw")


def test_requests_and_replies():
    request = Request(id=3, query=Act(action=Pause(), wait=2.0))
    assert codec.request(codec.encode(request)) == request
    assert codec.reply(codec.encode(Reply(id=3, data={"x": 1}))).data == {"x": 1}
    assert codec.request(codec.encode(Request(id=1, query=GetStatus()))).query == GetStatus()
