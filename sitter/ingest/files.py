"""Reading the recorder's files of a session whose process is gone, or, without touching them, of one that lives."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from sitter_wire.codec import GarbageError
from sitter_wire.events import DamagedRecord, Hole
from sitter_wire.records import DROPPED, MAGIC, Happening, Record, SegmentHeader, read_segment_header, scan_segment

SUFFIX = ".rec"
DIGITS = 19
"""Of a sequence number, fewer; a longer word is none."""
HEAD, LONGEST_HEAD = 16 << 10, 1 << 20
"""Bytes in which a segment's header lies as a rule, with the names known when it began, and at most."""


class SegmentRead(msgspec.Struct, frozen=True, kw_only=True):
    """One segment file: its header, whole records in file order, and how many were torn. What lies below ``begins`` and in no earlier
    segment is gone: 0 where the segment before it is there, for what is missing then was torn."""

    path: Path
    header: SegmentHeader
    records: list[Record]
    torn: int
    begins: int = 0


def sessions(recorder: Path) -> list[Path]:
    """Session folders, oldest first: by the branch that their first record names, since a run never gives a number twice, and the wall
    clock may have been turned back in between; by that clock where they name the same."""
    found: list[tuple[int, int, str, Path]] = []
    try:
        folders = [p for p in recorder.iterdir() if p.is_dir()]
    except OSError:
        return []
    for folder in folders:
        branch, began = next((told for told in map(_began, segments(folder)) if told is not None), (-1, 0))
        found.append((branch, began, folder.name, folder))
    return [folder for *_, folder in sorted(found)]


def segments(folder: Path) -> list[Path]:
    """A session's segment files in order of their first sequence (it is in the header; names sort the same way)."""
    try:
        return sorted(p for p in folder.iterdir() if p.suffix == SUFFIX)
    except OSError:
        return []


def read(folder: Path, after: int = 0) -> Iterator[SegmentRead]:
    """The session's segments one at a time; those that lie wholly at or below sequence ``after`` are skipped.

    A damaged file, or one from another layout, is left out: what the rest holds is still worth having.
    """
    paths = segments(folder)
    header_at = cache(lambda i: _header(paths[i]))  # each when it is needed: there may be thousands
    before = False  # the segment before this one is there
    for i, path in enumerate(paths):
        header = header_at(i)
        if header is None:
            before = False
            continue
        following = next((h.first_seq for h in map(header_at, range(i + 1, len(paths))) if h is not None), None)
        if following is not None and following <= after + 1:
            before = True
            continue
        try:
            data = path.read_bytes()
        except OSError:
            before = False
            continue
        whole: list[Record] = []
        torn = 0
        for record in scan_segment(data, header):
            if record is None:
                torn += 1
            elif record.seq > after:
                whole.append(record)
        begins, before = 0 if before else header.first_seq, True
        yield SegmentRead(path=path, header=header, records=whole, torn=torn, begins=begins)


def dropped(folder: Path) -> int:
    """The last record of the session that a later one has deleted to keep the recorder's cap; 0 for none. Asked after its segments were
    read: whoever deletes them does it at any time, the last of them included, and leaves word before."""
    try:
        lines = (folder / DROPPED).read_bytes().split()
    except OSError:
        return 0
    return max((int(line) for line in lines if line.isdigit() and len(line) < DIGITS), default=0)


def unreadable(folder: Path) -> list[str]:
    """A sentence for each segment that holds something and cannot be read: from another layout, or damaged. It is left as it is."""
    told = []
    for path in segments(folder):
        try:
            _read_header(path)
        except (OSError, GarbageError) as e:
            if not _is_prepared(path):
                told.append(f"what {path} holds is not read: {e}")
    return told


def never_began(folder: Path) -> bool:
    """Whether its process was killed before its first record. No where anything in it cannot be read: that might be one."""
    begun = [path for path in segments(folder) if not _is_prepared(path)]
    read_whole = 0
    for segment in read(folder):
        if segment.records or segment.torn:
            return False
        read_whole += 1
    return read_whole == len(begun)


def _is_prepared(path: Path) -> bool:
    """All zeros: made for what was to come, and never begun. Or not there any more."""
    try:
        with path.open("rb") as file:
            return not any(file.read(len(MAGIC)))
    except OSError:
        return not path.exists()


def _began(path: Path) -> tuple[int, int] | None:
    """(Branch of its first record that has one, wall clock) of a segment; None where it has no such record, or cannot be read."""
    try:
        header = _read_header(path)
        for size in (HEAD, LONGEST_HEAD):
            with path.open("rb") as file:
                data = file.read(size)
            for record in scan_segment(data, header):
                if record is not None and not (isinstance(record, Happening) and isinstance(record.event, Hole | DamagedRecord)):
                    return record.branch, header.wall_ns
    except (OSError, GarbageError):
        return None
    return None


def _header(path: Path) -> SegmentHeader | None:
    try:
        return _read_header(path)
    except (OSError, GarbageError):
        return None


def _read_header(path: Path) -> SegmentHeader:
    """Of the file's beginning no more than it takes: there may be thousands of segments. Raises OSError, GarbageError."""
    with path.open("rb") as file:
        data = file.read(HEAD)
        try:
            return read_segment_header(data)
        except GarbageError:
            if not data.startswith(MAGIC):
                raise
            return read_segment_header(data + file.read(LONGEST_HEAD))
