"""What a recorder's files hold, and what they no longer hold."""

import random
import shutil
import sys
from collections.abc import Callable

import pytest

from sitter.ingest import files
from sitter_agent.recorder import Recorder
from sitter_agent.segments import delete_foreign, files_of_others

SMALL = 4096


@pytest.fixture
def folder(tmp_path):
    """Eight segments of a session that is over."""
    recorder = Recorder(tmp_path, "over", segment_bytes=SMALL)
    step = 0
    while len(files.segments(tmp_path / "over")) < 8:
        recorder.log(step, 0, {"loss": float(step)})
        step += 1
    recorder.close()
    return tmp_path / "over"


def last(folder) -> int:
    return max(r.seq for s in files.read(folder) for r in s.records)


def test_only_the_first_segment_and_one_behind_a_missing_one_say_where_the_records_begin(folder):
    read = list(files.read(folder))
    assert [s.begins for s in read] == [1] + [0] * (len(read) - 1)
    read[0].path.unlink()
    read[4].path.write_bytes(b"damaged")
    expected = [read[1].header.first_seq, 0, 0, read[5].header.first_seq, *[0] * (len(read) - 6)]
    assert [s.begins for s in files.read(folder)] == expected
    assert [s.begins for s in files.read(folder, after=read[5].records[-1].seq)] == [0] * (len(read) - 6)


def test_whoever_deletes_a_segment_of_a_session_that_is_over_leaves_word_how_far_it_reached(folder):
    assert files.dropped(folder) == 0
    end, read = last(folder), list(files.read(folder))
    delete_foreign(read[0].path)
    assert files.dropped(folder) == read[0].records[-1].seq == read[1].header.first_seq - 1
    for path, _ in files_of_others(folder.parent, "mine"):
        delete_foreign(path)
    assert files.segments(folder) == []
    assert files.dropped(folder) == end


def interrupted(work: Callable[[], object], at: int, by: Callable[[], object]) -> bool:
    """``work``, with ``by`` in the midst of ``delete_foreign``, before its line number ``at``: as another thread, or a handler, comes
    between. False where it has fewer lines."""
    lines = 0

    def line(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        if event == "line" and lines == at:
            sys.settrace(None)
            by()
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: line if frame.f_code is delete_foreign.__code__ else None)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines >= at


def test_of_two_that_delete_at_the_same_time_neither_loses_the_others_word(folder):
    """The training thread and the control thread both make room; seen once in ten runs at the cap."""
    read = list(files.read(folder))
    end, at = read[2].records[-1].seq, 1
    while True:
        copy = folder.with_name(f"copy{at}")
        shutil.copytree(folder, copy)
        first, second, third = files.segments(copy)[:3]
        delete_foreign(first)
        if not interrupted(lambda: delete_foreign(second), at, lambda: delete_foreign(third)):  # noqa: B023 — called at once
            break
        assert files.dropped(copy) == end, f"line {at}"
        at += 1
    assert at > 3


@pytest.mark.parametrize("seed", range(5))
def test_a_torn_last_record_makes_no_number_up(folder, seed):
    whole = list(files.read(folder))[-1]
    data = bytearray(whole.path.read_bytes())
    random.seed(seed)
    end = len(data.rstrip(b"\0"))
    at = end - end % 8 - (0 if end % 8 else 8)
    data[at : at + 8] = bytes(8)  # the commit mark: what comes before it is a value
    data[at - 8 : at] = random.randbytes(8)
    whole.path.write_bytes(data)
    delete_foreign(whole.path)
    assert files.dropped(folder) == whole.records[-1].seq - 1


def test_what_says_how_far_it_reached_may_be_anything(folder):
    (folder / "dropped").write_bytes(b"\xffx")
    assert files.dropped(folder) == 0
    (folder / "dropped").write_bytes(b"12\n" + b"9" * 40 + b"\n-5 0x7\n7")
    assert files.dropped(folder) == 12
    (folder / "dropped").write_bytes(b"\xffx")
    delete_foreign(files.segments(folder)[0])
    assert len(files.segments(folder)) == 7
