"""Bytes to typed structs and back. Whatever arrives may be garbage: then ``Garbage`` says of which kind, and nothing else."""

from typing import Any, TypeVar

import msgspec

from sitter_wire.bounds import Count
from sitter_wire.commands import FROZEN_ACTIONS
from sitter_wire.messages import MAX_FRAME, PROTOCOL, AnyMessage, Order, ShipmentHeader
from sitter_wire.queries import Reply, Request

VERSION_FRAME = str(PROTOCOL).encode()

MOST_ID = 64
"""Characters of a command's id; ours have 12."""

T = TypeVar("T")


class GarbageError(ValueError):
    """Something arrived that is not ours. ``kind`` is short and stable, so that it can be counted and logged once."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class VersionMismatchError(GarbageError):
    """A message that is not frozen came from another protocol version."""

    def __init__(self, theirs: int, command: str = "") -> None:
        super().__init__(
            "version", f"protocol {theirs} spoke, this side speaks {PROTOCOL}: upgrade the older of the two"
        )
        self.theirs = theirs
        self.command = command
        """Id of the command that was refused, so that it can be answered."""


_encoder = msgspec.msgpack.Encoder()
_messages: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)
_shipments = msgspec.msgpack.Decoder(ShipmentHeader)
_requests = msgspec.msgpack.Decoder(Request)
class _Numbered(msgspec.Struct):
    id: Count


_ids = msgspec.msgpack.Decoder(_Numbered)
_replies = msgspec.msgpack.Decoder(Reply)


def encode(value: object) -> bytes:
    """Msgpack; NaN and ±Inf survive (in JSON they would become null)."""
    return _encoder.encode(value)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", payload: bytes) -> T:
    if len(payload) > MAX_FRAME:
        raise GarbageError("oversized", f"{len(payload)} bytes, at most {MAX_FRAME}")
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError as e:
        raise GarbageError("unknown", str(e)) from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as e:
        raise GarbageError("malformed", str(e)) from e


def _version(frame: bytes) -> int:
    if not (0 < len(frame) <= 4 and frame.isdigit()):
        raise GarbageError("malformed", "no protocol version")
    return int(frame)


def frames(message: AnyMessage) -> list[bytes]:
    """A message as it goes on the wire."""
    return [VERSION_FRAME, _encoder.encode(message)]


def message(parts: list[bytes]) -> AnyMessage:
    """A message as it came. Raises GarbageError; VersionMismatchError where another version asks for what is not frozen."""
    if len(parts) != 2:
        raise GarbageError("malformed", f"{len(parts)} frames, expected 2")
    theirs = _version(parts[0])
    decoded = _decode(_messages, parts[1])
    if theirs != PROTOCOL and isinstance(decoded, Order) and not isinstance(decoded.command.action, FROZEN_ACTIONS):
        raise VersionMismatchError(theirs, decoded.command.id)
    return decoded


def shipment(parts: list[bytes]) -> tuple[ShipmentHeader, bytes]:
    """A shipment as it came: its header and the raw records."""
    if len(parts) != 3:
        raise GarbageError("malformed", f"{len(parts)} frames, expected 3")
    _version(parts[0])
    if len(parts[2]) > MAX_FRAME:
        raise GarbageError("oversized", f"{len(parts[2])} bytes, at most {MAX_FRAME}")
    return _decode(_shipments, parts[1]), parts[2]


def shipment_frames(header: ShipmentHeader, raw: Any) -> list[Any]:
    """A shipment as it goes; ``raw`` is anything with the buffer protocol."""
    return [VERSION_FRAME, _encoder.encode(header), raw]


def request(payload: bytes) -> Request:
    """A client's request. Raises GarbageError."""
    return _decode(_requests, payload)


def request_id(payload: bytes) -> int | None:
    """The number of a request that could not be understood otherwise; None where it has none."""
    if len(payload) > 1 << 16:
        return None
    try:
        return _ids.decode(payload).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError):
        return None


def order_id(parts: list[bytes]) -> str:
    """The id of an order that could not be understood otherwise; empty where there is none, or one that no daemon gives."""
    try:
        payload = msgspec.msgpack.decode(parts[1])
        found = payload["command"]["id"] if payload["m"] == "order" else ""
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError, OverflowError):
        return ""
    return found if isinstance(found, str) and len(found) <= MOST_ID else ""


def reply(payload: bytes) -> Reply:
    """The daemon's reply. Raises GarbageError."""
    return _decode(_replies, payload)


def to(kind: type[T], value: object) -> T:
    """Already decoded msgpack (dicts, lists) into a typed struct. Raises GarbageError."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as e:
        raise GarbageError("unknown", str(e)) from e
