"""Each record once and in order, whatever the link does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitter.ingest.intake import Intake
from sitter_wire import records
from sitter_wire.codec import GarbageError
from sitter_wire.messages import ShipmentHeader

SCHEMA = {2: ["loss"]}


def raw(first: int, count: int) -> bytes:
    size = records.OVERHEAD + 8
    out = bytearray(size * count)
    for i in range(count):
        seq = first + i
        records.point_struct(1).pack_into(out, i * size, records.point_word(2, 1), seq, 0, seq * 1000, float(seq), seq)
    return bytes(out)


def header(first: int, count: int, **more) -> ShipmentHeader:
    return ShipmentHeader(session="s", first=first, count=count, schemas=SCHEMA, **more)


def seqs(taken) -> list[int]:
    return [r.seq for r in taken]


def test_contiguous_shipments_are_taken_once():
    intake = Intake({})
    assert seqs(intake.take(header(1, 3), raw(1, 3))) == [1, 2, 3]
    assert seqs(intake.take(header(1, 3), raw(1, 3))) == []
    assert seqs(intake.take(header(3, 3), raw(3, 3))) == [4, 5]
    assert intake.wanted("s") == 6


def test_on_a_hole_nothing_is_taken_until_it_is_filled():
    intake = Intake({"s": 4})
    assert intake.take(header(7, 2), raw(7, 2)) == []
    assert intake.holes == {"s"}
    assert intake.wanted("s") == 5
    assert seqs(intake.take(header(5, 4), raw(5, 4))) == [5, 6, 7, 8]
    assert not intake.holes


def test_records_that_were_dropped_at_the_cap_are_passed_over_when_the_agent_says_so():
    intake = Intake({"s": 4})
    assert seqs(intake.take(header(9, 2, lost_from=5), raw(9, 2))) == [9, 10]


def test_what_is_gone_is_told_by_its_numbers_and_once():
    told = []
    intake = Intake({"s": 4}, lambda *gap: told.append(gap))
    intake.take(header(9, 2, lost_from=5), raw(9, 2))
    intake.take(header(9, 3, lost_from=5), raw(9, 3))
    intake.begins("s", 12)
    assert told == [("s", 5, 8)]
    intake.begins("s", 15)
    intake.begins("new", 3)
    assert told[1:] == [("s", 12, 14), ("new", 1, 2)]
    assert (intake.wanted("s"), intake.wanted("new")) == (15, 3)


def test_a_hole_is_no_gap_and_garbage_is_none():
    told = []
    intake = Intake({"s": 4}, lambda *gap: told.append(gap))
    intake.take(header(9, 2), raw(9, 2))
    with pytest.raises(GarbageError):
        intake.take(header(9, 2, lost_from=5), b"x" * 96)
    assert told == []


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_a_count_that_cannot_be_is_garbage_and_changes_nothing(count):
    intake = Intake({})
    with pytest.raises(GarbageError):
        intake.take(header(1, count), raw(1, 2))
    assert intake.wanted("s") == 1


def test_a_damaged_shipment_is_not_taken_in_part():
    intake = Intake({})
    damaged = bytearray(raw(1, 3))
    damaged[-8:] = bytes(8)
    with pytest.raises(GarbageError):
        intake.take(header(1, 3), bytes(damaged))
    assert intake.wanted("s") == 1
    assert seqs(intake.take(header(1, 3), raw(1, 3))) == [1, 2, 3]


@given(st.binary(max_size=300), st.integers(-5, 50), st.integers(-5, 50))
def test_no_bytes_break_it(data, first, count):
    intake = Intake({})
    try:
        intake.take(header(first, count), data)
    except GarbageError:
        assert intake.wanted("s") == 1


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 10)), max_size=60))
def test_any_order_of_shipments_gives_each_record_once_in_order(shipments):
    intake, got = Intake({}), []
    for first, count in shipments:
        got += seqs(intake.take(header(first, count), raw(first, count)))
    assert got == list(range(1, len(got) + 1))


def test_of_a_dead_sessions_files_a_missing_number_is_a_hole_for_good_but_not_of_a_living_ones():
    found = records.decode_stream(raw(1, 5), {2: ("loss",)}, 1, 5)
    del found[2]
    assert seqs(Intake({}).take_read("s", found, live=True)) == [1, 2]
    assert seqs(Intake({}).take_read("s", reversed(found))) == [1, 2, 4, 5]


def damaged(seq: int) -> bytes:
    out = bytearray(records.blob_bytes(b"\xc1"))
    records.pack_blob(memoryview(out), 0, records.EVENT, 1, 0, 1, b"\xc1", seq)
    return bytes(out)


def test_a_damaged_record_is_passed_by_once_and_the_rest_is_taken():
    intake = Intake({})
    assert seqs(intake.take(header(1, 5), raw(1, 2) + damaged(3) + raw(4, 2))) == [1, 2, 3, 4, 5]
    assert (intake.wanted("s"), intake.garbage) == (6, 0)


def test_in_the_file_of_a_living_session_what_looks_damaged_may_be_half_written():
    found = records.decode_stream(raw(1, 2) + damaged(3) + raw(4, 2), {2: ("loss",)}, 1, 5)
    assert seqs(Intake({}).take_read("s", found, live=True)) == [1, 2]
    assert seqs(Intake({}).take_read("s", found)) == [1, 2, 3, 4, 5]
