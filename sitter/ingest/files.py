"""Reading the recorder's files of a session whose process is gone, or, without touching them, of one that lives."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from sitter_wire.codec import GarbageError
from sitter_wire.events import Hole
from sitter_wire.records import DROPPED, MAGIC, Happening, Record, SegmentHeader, read_segment_header, scan_segment

SUFFIX = ".rec"
DIGITS = 19
"""Of a sequence number, fewer; a longer word is none."""


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
    headers = [_header(p) for p in paths]
    before = False  # the segment before this one is there
    for i, (path, header) in enumerate(zip(paths, headers, strict=True)):
        if header is None:
            before = False
            continue
        following = next((h.first_seq for h in headers[i + 1 :] if h is not None), None)
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


def unreadable(recorder: Path) -> list[str]:
    """A sentence for each segment that holds something and cannot be read: from another layout, or damaged. It is left as it is."""
    told = []
    for folder in sessions(recorder):
        for path in segments(folder):
            try:
                with path.open("rb") as file:
                    begins = file.read(1 << 20)
                if any(begins[: len(MAGIC)]):  # all zeros: prepared, and never begun
                    read_segment_header(begins)
            except (OSError, GarbageError) as e:
                told.append(f"what {path} holds is not read: {e}")
    return told


def _began(path: Path) -> tuple[int, int] | None:
    """(Branch of its first record that has one, wall clock) of a segment; None where it has no such record, or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(1 << 20)
        header = read_segment_header(data)
    except (OSError, GarbageError):
        return None
    for record in scan_segment(data, header):
        if record is not None and not (isinstance(record, Happening) and isinstance(record.event, Hole)):
            return record.branch, header.wall_ns
    return None


def _header(path: Path) -> SegmentHeader | None:
    try:
        with path.open("rb") as file:
            return read_segment_header(file.read(1 << 20))
    except (OSError, GarbageError):
        return None
