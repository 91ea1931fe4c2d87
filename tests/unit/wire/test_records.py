"""The recorder's layout: what was written is read, what was torn is recognised, and nothing else comes of any bytes."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitter_wire import records
from sitter_wire.codec import GarbageError, encode
from sitter_wire.events import DamagedRecord, Gap, GoodBye, Hole, UnknownEvent
from sitter_wire.records import EVENT, SCHEMA, Happening, Point, SegmentHeader

SCHEMAS = {2: ("loss", "lr")}
SIZE = records.OVERHEAD + 16


def point(seq: int, *values: float) -> bytes:
    out = bytearray(SIZE)
    records.point_struct(2).pack_into(out, 0, records.point_word(2, 2), seq * 10, 0, seq * 1000, *values, seq)
    return bytes(out)


def blob(schema: int, seq: int, payload: bytes) -> bytes:
    out = bytearray(records.blob_bytes(payload))
    records.pack_blob(memoryview(out), 0, schema, 5, 1, 99, payload, seq)
    return bytes(out)


def segment(*parts: bytes, size: int = 1 << 14) -> tuple[bytes, SegmentHeader]:
    data = bytearray(size)
    header = SegmentHeader(session="abc", first_seq=1, wall_ns=5, mono_ns=6, size=size, data_at=0, schemas={2: ["loss", "lr"]})
    at = records.pack_segment_header(memoryview(data), header)
    for part in parts:
        data[at : at + len(part)] = part
        at += len(part)
    return bytes(data), records.read_segment_header(data)


def test_points_events_and_new_schemas_come_back_in_order():
    stream = point(1, 2.5, math.inf) + blob(EVENT, 2, encode(Gap(first=1, last=2, why="cap"))) + blob(SCHEMA, 3, encode((3, ["x"])))
    got = records.decode_stream(stream, dict(SCHEMAS), 1, 3)
    assert got[0] == Point(1, 10, 0, 1000, ("loss", "lr"), (2.5, math.inf))
    assert got[1] == Happening(2, 5, 1, 99, Gap(first=1, last=2, why="cap"))
    assert isinstance(got[2].event, Hole)


def test_a_schema_declared_in_the_stream_is_used_after_it():
    one = bytearray(records.OVERHEAD + 8)
    records.point_struct(1).pack_into(one, 0, records.point_word(3, 1), 1, 0, 7, math.nan, 2)
    got = records.decode_stream(blob(SCHEMA, 1, encode((3, ["x"]))) + bytes(one), {}, 1, 2)
    assert got[1].names == ("x",)
    assert math.isnan(got[1].values[0])


@pytest.mark.parametrize(
    "newer",
    [
        {"event": "of_tomorrow", "step": [1, {"a": None}]},
        {"n": 1, "event": "of_tomorrow"},
        {"event": "goodbye", "how": "in a way of tomorrow"},
        {"event": "gap", "first": 1},
    ],
)
def test_an_event_that_is_not_understood_is_passed_by_and_nothing_around_it_is_lost(newer):
    payload = encode(newer)
    parts = (point(1, 1.0, 2.0), blob(EVENT, 2, payload), point(3, 3.0, 4.0))
    data, header = segment(*parts)
    for got in (records.decode_stream(b"".join(parts), dict(SCHEMAS), 1, 3), list(records.scan_segment(data, header))):
        assert [r.seq for r in got] == [1, 2, 3]
        assert isinstance(got[1].event, UnknownEvent)
        assert (got[1].event.kind, got[1].event.payload) == (newer["event"], payload)
        assert got[1].event.why
        assert got[2].values == (3.0, 4.0)


def test_what_a_known_event_has_more_is_passed_over():
    payload = encode({"event": "goodbye", "of_tomorrow": {"a": [1]}, "how": "total"})
    (got,) = records.decode_stream(blob(EVENT, 1, payload), {}, 1, 1)
    assert got.event == GoodBye(how="total")


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1", b"\x81", encode({"n": 1}), encode({"event": 3}), encode({"event": ""}), encode({"event": "x" * 65}), encode([1]),
        b"\x82\xa5event\xa3new\xa1a\xa1\xff", b"\x82\xa5event\xa3new\xa1a" + b"\x91" * 5000 + b"\x00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("schema", [EVENT, SCHEMA])
def test_what_no_version_writes_is_damage_and_no_event_and_nothing_around_it_is_lost(payload, schema):
    parts = (point(1, 1.0, 2.0), blob(schema, 2, payload), point(3, 3.0, 4.0))
    data, header = segment(*parts)
    for got in (records.decode_stream(b"".join(parts), dict(SCHEMAS), 1, 3), list(records.scan_segment(data, header))):
        assert [r.seq for r in got] == [1, 2, 3]
        assert "damaged" in got[1].event.why
        assert isinstance(got[1].event, DamagedRecord)
        assert got[2].values == (3.0, 4.0)


def test_values_of_names_that_were_lost_with_their_declaration_are_damage():
    stream = blob(SCHEMA, 1, b"\xc1") + point(2, 1.0, 2.0) + blob(EVENT, 3, encode(GoodBye(how="total")))
    got = records.decode_stream(stream, {}, 1, 3)
    assert [type(r.event) for r in got] == [DamagedRecord, DamagedRecord, GoodBye]


def test_what_looks_like_a_damaged_record_out_of_sequence_is_none():
    """Its number may be anything: believed, all that follows would be taken for known."""
    out = blob(EVENT, 1 << 40, b"\xc1")
    data, header = segment(point(1, 1.0, 2.0), out, point(2, 3.0, 4.0))
    assert [r.seq for r in records.scan_segment(data, header)] == [1, 2]
    with pytest.raises(GarbageError, match="expected 2"):
        records.decode_stream(point(1, 1.0, 2.0) + out, dict(SCHEMAS), 1, 2)


@pytest.mark.parametrize("cut", [1, 8, SIZE - 8, SIZE - 1])
def test_a_stream_that_was_cut_is_refused_whole(cut):
    with pytest.raises(GarbageError):
        records.decode_stream((point(1, 1.0, 1.0) + point(2, 1.0, 1.0))[:-cut], dict(SCHEMAS), 1, 2)


def test_a_wrong_sequence_is_refused():
    with pytest.raises(GarbageError, match="sequence 3, expected 2"):
        records.decode_stream(point(1, 1.0, 1.0) + point(3, 1.0, 1.0), dict(SCHEMAS), 1, 2)


def test_a_segment_can_be_read_alone_with_torn_records_and_holes_told_apart():
    torn = bytearray(point(2, 1.0, 1.0))
    torn[-8:] = bytes(8)
    data, header = segment(point(1, 1.0, 2.0), bytes(torn), bytes(SIZE), point(4, 3.0, 4.0), size=1 << 15)
    assert (header.session, header.first_seq, header.wall_ns) == ("abc", 1, 5)
    found = list(records.scan_segment(data, header))
    assert [r.seq if r else None for r in found] == [1, None, 4]


def test_a_hole_of_many_pages_is_stepped_over():
    data, header = segment(point(1, 1.0, 2.0), bytes(40_000), point(2, 1.0, 2.0), size=1 << 17)
    assert [r.seq for r in records.scan_segment(data, header)] == [1, 2]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda d: d[:50], "segment"),
        (lambda d: b"XXXXXXXX" + d[8:], "segment"),
        (lambda d: d[:8] + struct.pack("<q", 99) + d[16:], "layout"),
    ],
)
def test_what_is_no_segment_or_a_newer_one_is_said(change, kind):
    data, _ = segment(point(1, 1.0, 2.0))
    with pytest.raises(GarbageError) as raised:
        records.read_segment_header(change(data))
    assert raised.value.kind == kind


@given(st.binary(max_size=400), st.integers(0, 3), st.integers(0, 5))
def test_no_bytes_break_the_stream_reader(data, first, count):
    try:
        assert len(records.decode_stream(data, dict(SCHEMAS), first, count)) == count
    except GarbageError:
        return


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=40))
def test_no_damage_breaks_the_segment_reader_nor_invents_a_value(damage):
    whole, header = segment(*(point(i, float(i), 0.5) for i in range(1, 20)), size=1 << 12)
    data = bytearray(whole)
    for at, byte in damage:
        if header.data_at + at < len(data):
            data[header.data_at + at] = byte
    for record in records.scan_segment(bytes(data), header):
        assert record is None or record.seq > 0


@given(st.lists(st.floats(), min_size=1, max_size=9))
def test_a_record_has_the_same_bytes_on_every_processor(values):
    fixed = struct.pack(f"<qqqq{len(values)}dq", 5 << 32 | 80, -3, 2, 1 << 62, *values, 9)
    assert records.point_struct(len(values)).pack(5 << 32 | 80, -3, 2, 1 << 62, *values, 9) == fixed
