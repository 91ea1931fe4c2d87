"""Every bit comes back, in few bytes; what is damaged is said to be."""

import math
import random
import struct
from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sitter.store.chunks import (
    DamagedChunkError,
    join,
    pack_floats,
    pack_ints,
    section,
    unpack_floats,
    unpack_ints,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
BITS = st.integers(0, 2**64 - 1).map(lambda n: struct.unpack("<d", struct.pack("<Q", n))[0])
"""Any float64 at all: NaNs with payloads, signalling ones, infinities, −0.0, denormals."""


def bits(values: "array[float]") -> bytes:
    return values.tobytes()


@given(st.lists(st.one_of(BITS, st.floats(width=32), st.integers(-(2**53), 2**53).map(float)), min_size=1, max_size=400))
def test_floats_come_back_bit_for_bit(values: list[float]) -> None:
    column = array("d", values)
    assert bits(unpack_floats(pack_floats(column), len(column))) == bits(column)


@given(st.integers(1, 1100), st.sampled_from(["noise", "float32", "constant", "smooth", "few", "nan"]), st.integers(0, 1000))
def test_floats_of_every_kind_and_length_come_back(n: int, kind: str, seed: int) -> None:
    rnd = random.Random(seed)
    make = {
        "noise": lambda i: rnd.random(), "float32": lambda i: struct.unpack("f", struct.pack("f", rnd.gauss(2, 0.1)))[0],
        "constant": lambda i: 3e-4, "smooth": lambda i: math.cos(i / 500), "few": lambda i: float(rnd.randrange(3)),
        "nan": lambda i: rnd.choice([math.nan, -0.0, math.inf, -math.inf, 1.0]),
    }  # fmt: skip
    column = array("d", [make[kind](i) for i in range(n)])
    assert bits(unpack_floats(pack_floats(column), n)) == bits(column)


@given(st.lists(INT64, max_size=300))
@example([-1, 2**63 - 1])
@example([2**63 - 1, -(2**63)])
def test_ints_come_back(values: list[int]) -> None:
    assert unpack_ints(pack_ints(values), len(values)) == values


@given(INT64, st.integers(-1000, 1000), st.integers(1, 1100))
def test_evenly_spaced_ints_come_back_and_take_next_to_nothing(first: int, stride: int, n: int) -> None:
    values = [v for v in (first + stride * i for i in range(n)) if -(2**63) <= v < 2**63]
    packed = pack_ints(values)
    assert unpack_ints(packed, len(values)) == values
    assert len(packed) <= 20


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=1100))
def test_times_with_jitter_come_back(gaps: list[int]) -> None:
    times, at = [], 10**15
    for gap in gaps:
        at += gap
        times.append(at)
    assert unpack_ints(pack_ints(times), len(times)) == times


def test_a_float32_loss_takes_under_three_and_a_half_bytes() -> None:
    rnd = random.Random(0)
    loss = array("d", [struct.unpack("f", struct.pack("f", 2 + 2 * math.exp(-i / 500) + 0.1 * rnd.gauss(0, 1)))[0] for i in range(1024)])
    assert len(pack_floats(loss)) / 1024 < 3.5


def test_noise_grows_by_no_more_than_its_header() -> None:
    column = array("d", random.Random(0).randbytes(8 * 1024))
    assert len(pack_floats(column)) <= 8 * 1024 + 8


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_joined_sections_are_found_again(parts: list[bytes]) -> None:
    joined = join(parts)
    assert [bytes(section(joined, i)) for i in range(len(parts))] == parts
    with pytest.raises(DamagedChunkError):
        section(joined, len(parts))


@given(st.data())
def test_a_damaged_column_is_said_to_be_or_read_and_nothing_else(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 600))
    rnd = random.Random(n)
    packed = bytearray(pack_floats(array("d", [rnd.gauss(0, 1) if n % 2 else float(i % 7) for i in range(n)])))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packed)))
    for damaged in (bytes(packed), bytes(packed[:cut])):
        for unpack in (unpack_floats, unpack_ints):
            try:
                assert len(unpack(damaged, n)) == n
            except DamagedChunkError:
                pass
