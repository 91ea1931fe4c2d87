"""Garbage of every kind, made from what is real and from nothing: repeatable by its seed."""

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

WORDS = (0, 1, 7, 8, 127, 128, 255, 256, 65535, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1)
TAGS = ("hello", "ping", "pong", "ack", "order", "answer", "stacks", "status", "curves", "logbook", "days", "since", "rules")
DEEP = 3000
"""Nested lists, more than Python's stack has room for."""


class Mutator:
    """Changes bytes and values. ``kinds`` counts what was done."""

    def __init__(self, of: str) -> None:
        self.random = random.Random(of)
        self.kinds: dict[str, int] = {}

    def data(self, real: bytes) -> bytes:
        """A few bytes changed, cut, doubled, inserted, or set to numbers at the border."""
        name = self.random.choice(("flipped", "cut", "doubled", "inserted", "number", "zeros", "noise", "spliced"))
        self.kinds[name] = self.kinds.get(name, 0) + 1
        r, out = self.random, bytearray(real or b"\0")
        at = r.randrange(len(out))
        match name:
            case "flipped":
                for _ in range(r.choice((1, 1, 2, 8))):
                    out[r.randrange(len(out))] ^= 1 << r.randrange(8)
            case "cut":
                del out[at:]
            case "doubled":
                out += out[at:]
            case "inserted":
                out[at:at] = r.randbytes(r.choice((1, 4, 64)))
            case "number":
                out[at : at + 8] = struct.pack("<Q", r.choice(WORDS))
            case "zeros":
                out[at : at + r.choice((1, 8, 512))] = bytes(min(8, len(out) - at))
            case "noise":
                out = bytearray(r.randbytes(r.choice((0, 1, 3, 50, 2000))))
            case _:
                cut = r.randrange(len(out))
                out = out[:at] + out[cut:]
        return bytes(out)

    def payload(self, real: bytes) -> bytes:
        """Msgpack whose values have other types, other sizes, or are missing; else ``data``."""
        if self.random.random() < 0.5:
            return self.data(real)
        try:
            value = msgspec.msgpack.decode(real)
        except msgspec.DecodeError:
            return self.data(real)
        self.kinds["confused"] = self.kinds.get("confused", 0) + 1
        return msgspec.msgpack.encode(self.confused(value))

    def confused(self, value: Any) -> Any:
        """The same structure with one value in it replaced, dropped or doubled."""
        if isinstance(value, dict) and value and self.random.random() < 0.9:
            key = self.random.choice(list(value))
            out = dict(value)
            if self.random.random() < 0.15:
                del out[key]
            elif self.random.random() < 0.1:
                out[self.strange_name()] = out.pop(key)
            else:
                out[key] = self.confused(out[key])
            return out
        if isinstance(value, list) and value and self.random.random() < 0.6:
            i = self.random.randrange(len(value))
            return [*value[:i], self.confused(value[i]), *value[i + 1 :]]
        return self.strange()

    def strange_name(self) -> str:
        """A key that nobody expects."""
        return self.random.choice(("", "m", "q", "do", "event", "é" * 40, "../..", "\0"))

    def strange(self) -> Any:
        """A value of any type and of any size."""
        r = self.random
        return r.choice((
            None, True, False, *WORDS, -1, -(1 << 63), float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, "",
            "\0", "a" * 5000, "[/b]", "\ud7ff\uffff", "../../etc/passwd", b"", b"\xff" * 100,
            [], [[]] * 3, {}, {"m": "ping"}, {"": {}}, [None] * 1000, self.deep(),
        ))  # fmt: skip

    def deep(self) -> Any:
        """A list in a list in a list…; small enough to be encoded, and deeper than most decoders go."""
        value: Any = 0
        for _ in range(self.random.choice((5, 90))):
            value = [value]
        return value


def deep_bytes() -> bytes:
    """Deeper than any encoder goes."""
    return b"\x91" * DEEP + b"\0"


def from_nothing(count: int, of: str) -> Iterator[list[bytes]]:
    """Multi-part messages that hypothesis makes up: any frames, any msgpack, any tags of ours with any values behind them."""
    number = st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats()
    scalar = st.none() | number | st.text(max_size=20) | st.binary(max_size=20)
    key = st.text(max_size=8)
    value = st.recursive(scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(key, inner, max_size=4), max_leaves=8)
    tags = st.sampled_from(TAGS)
    tagged = st.fixed_dictionaries(
        {"m": tags, "q": tags, "id": value, "session": value, "n": value, "step": value, "command": value, "query": value}
    )
    packed = (value | tagged).map(msgspec.msgpack.encode)
    frame = st.binary(max_size=40) | packed | st.sampled_from((b"1", b"2", b"0", b"9999", b"", b"\xb2"))
    message = st.lists(frame, max_size=5) | st.tuples(st.sampled_from((b"1", b"2")), packed).map(list)
    made: list[list[bytes]] = []

    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @seed(of)
    @given(message)
    def collect(parts: list[bytes]) -> None:
        made.append(parts)

    collect()
    for i in range(count):  # it stops early where it has seen all there is
        yield made[i % len(made)] or [b""]


def mixed(count: int, of: str, real: Callable[[random.Random], list[bytes]], share_from_nothing: float = 0.1) -> Iterator[list[bytes]]:
    """So many messages: most are real ones with something changed, some are from nothing."""
    mutator = Mutator(of)
    r = mutator.random
    made = from_nothing(max(1, int(count * share_from_nothing)), of)
    for _ in range(count):
        if r.random() < share_from_nothing and (parts := next(made, None)) is not None:
            yield parts
            continue
        parts = list(real(r))
        kind = r.random()
        if kind < 0.1:
            parts.pop(r.randrange(len(parts)))
        elif kind < 0.15:
            parts.insert(r.randrange(len(parts) + 1), r.choice((b"", b"1", parts[-1])))
        elif kind < 0.16:
            parts[-1] = deep_bytes()
        elif kind < 0.165:
            parts += [b""] * 1000
        else:
            for i in {r.randrange(len(parts)), len(parts) - 1}:
                parts[i] = mutator.payload(parts[i])
        yield parts or [b""]
