"""Segment files: allocated before they are mapped, touched once, found again by sequence number, deleted.

A store to a page that a full disk cannot give is SIGBUS, which no ``try`` catches: so ``posix_fallocate`` comes before
``mmap``. Every page is then touched, since ``MAP_POPULATE`` does not pre-dirty shared pages and the first store to each
would otherwise cost the training loop a fault.
"""

import mmap
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

from sitter_wire.codec import GarbageError
from sitter_wire.records import DROPPED, OVERHEAD, SEGMENT_SUFFIX, read_segment_header, scan_segment

PAGE = 4096
TOUCH_PAGES = 16
"""Pages touched at a time; in between the control thread lets go of the interpreter's lock."""
MARK_EVERY = 512
"""Bytes between two remembered record boundaries, at least."""

_SEQ, _OFFSET = itemgetter(0), itemgetter(1)


class Segment:
    """One file of records. ``first`` and ``last`` are sequence numbers, ``end`` the offset behind the last record.

    A mapping holds a file descriptor, and a training process has only so many: old segments give theirs back
    (``unmap``) and are mapped again, read-only, when they are shipped after all. Nothing is ever closed by hand:
    whoever still reads a view keeps it alive.
    """

    __slots__ = ("_marks", "data_at", "end", "first", "last", "path", "size", "view")

    def __init__(self, path: Path, size: int, view: memoryview) -> None:
        self.path, self.size = path, size
        self.view: memoryview | None = view
        self.first = self.last = 0
        self.data_at = self.end = 0
        # (sequence, offset) as one thing: in two lists side by side an interrupt between two appends, or another thread that reads then,
        # would pair a sequence with another record's place, and no shipment from there on could be read.
        self._marks: list[tuple[int, int]] = []

    def begin(self, first: int, data_at: int) -> None:
        """The first record will have sequence ``first`` and lie at ``data_at``."""
        self.first, self.last = first, first - 1
        self.data_at = self.end = data_at
        self._marks = [(first, data_at)]

    def mark(self, seq: int, offset: int, every: int = MARK_EVERY) -> None:
        """Remember that record ``seq`` begins at ``offset``, unless a mark lies closer than ``every`` bytes before
        it."""
        if offset - self._marks[-1][1] >= every:
            self._marks.append((seq, offset))

    def data(self) -> memoryview:
        """The file's bytes, mapped again where they were given back. Raises OSError where the file is gone."""
        view = self.view
        if view is None:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                view = memoryview(mmap.mmap(fd, self.size, access=mmap.ACCESS_READ))
            finally:
                os.close(fd)
            self.view = view
        return view

    def unmap(self) -> None:
        """Give the mapping back as soon as nobody reads it."""
        self.view = None

    def offset_of(self, seq: int, view: memoryview) -> int:
        """Where record ``seq`` begins: from the nearest mark before it, record by record."""
        here, at = self._marks[bisect_right(self._marks, seq, key=_SEQ) - 1]
        while here < seq:
            at += _length(view, at)
            here += 1
        return at

    def cut(self, seq: int, at: int, max_bytes: int, end_seq: int, end: int, view: memoryview) -> tuple[int, int]:
        """(sequence, offset) of the record to stop before, so that ``max_bytes`` are not passed but one record at least
        is taken.

        ``at`` is the offset of ``seq``; ``end_seq`` and ``end`` are where the written part ends.
        """
        if end - at <= max_bytes:
            return end_seq, end
        marked, offset = self._marks[bisect_right(self._marks, at + max_bytes, key=_OFFSET) - 1]
        if seq < marked <= end_seq:
            return marked, offset
        stop, here = at + _length(view, at), seq + 1
        while stop < end and stop + _length(view, stop) <= at + max_bytes:
            stop += _length(view, stop)
            here += 1
        return here, stop

    def delete(self) -> None:
        """Remove the file; a mapping that somebody still reads stays readable."""
        self.path.unlink(missing_ok=True)
        self.view = None


def delete_foreign(path: Path) -> None:
    """Remove a segment of a session that is over, and leave word of how far its records are gone. Raises OSError where it stays.

    A line more for each: two threads of the training, or a handler in the midst of one, may do this at the same time, and of a number that
    is read, compared and written again the greater one was seen to be lost.
    """
    last = _last_seq(path)
    try:
        with (path.parent / DROPPED).open("ab", buffering=0) as word:
            word.write(b"%d\n" % last)
    except OSError:
        pass  # they go uncounted: the cap comes first
    path.unlink(missing_ok=True)


def _last_seq(path: Path) -> int:
    """The last sequence number in a segment, 0 where none can be told: a record ends with it, and behind the last there are only zeros."""
    try:
        data = path.read_bytes()
        header = read_segment_header(data)
    except (OSError, GarbageError):
        return 0
    end = -(-len(data.rstrip(b"\0")) // 8) * 8
    last = int.from_bytes(data[end - 8 : end], "little")
    if header.first_seq <= last < header.first_seq + len(data) // OVERHEAD:
        return last
    # The last one was torn, and this is a value of it: read record by record, which takes milliseconds and is rare.
    return max((r.seq for r in scan_segment(data, header) if r is not None), default=header.first_seq - 1)


def _length(view: memoryview, at: int) -> int:
    """Of the record there. Never 0, also where somebody has written zeros over it: who goes from record to record must come to an end, in
    the training thread as well."""
    return int.from_bytes(view[at : at + 4], "little") or 8


def schemas_used(view: memoryview, at: int, end: int) -> set[int]:
    """The schema numbers of the records between two offsets."""
    used = set()
    while at < end:
        used.add(int.from_bytes(view[at + 4 : at + 8], "little"))
        at += _length(view, at)
    return used


def allocate(path: Path, size: int, breathe: Callable[[], None] | None = None) -> Segment:
    """A new zeroed segment file, every page of it given by the disk and touched. Raises OSError (ENOSPC, EFBIG,
    EDQUOT…) and leaves nothing.

    ``breathe`` is called between stretches of pages, so that another thread can go on.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:  # macOS
            for at in range(0, size, 1 << 20):
                os.pwrite(fd, bytes(min(1 << 20, size - at)), at)
        view = memoryview(mmap.mmap(fd, size))
        stretch = TOUCH_PAGES * PAGE
        for at in range(0, size, stretch):
            pages = view[at : at + stretch : PAGE]
            pages[:] = bytes(len(pages))
            if breathe is not None:
                breathe()
        return Segment(path, size, view)
    except BaseException:  # Ctrl-C too: half a segment left lying would be taken for one
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def breathe() -> None:
    """Sleep long enough that a thread waiting for the interpreter's lock surely gets it (``sleep(0)`` takes it back too
    soon)."""
    time.sleep(50e-6)


def files_of_others(recorder: Path, session: str) -> Iterator[tuple[Path, int]]:
    """Segment files of every other session of the run with their sizes, oldest session first (ids begin with the start
    time)."""
    try:
        folders = sorted(p for p in recorder.iterdir() if p.name != session and p.is_dir())
    except OSError:
        return
    for folder in folders:
        try:
            found = sorted((e.path, e.stat().st_size) for e in os.scandir(folder) if e.name.endswith(SEGMENT_SUFFIX))
        except OSError:
            continue
        yield from ((Path(path), size) for path, size in found)
