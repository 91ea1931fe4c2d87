"""The recorder's segments: begun, filled, given up when committed. What is written into them is the recorder's."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns, time_ns

import msgspec

from sitter_agent.quick import Place
from sitter_agent.say import Once
from sitter_agent.segments import PAGE, Segment, breathe
from sitter_agent.supply import Supply
from sitter_wire.records import HEADER_BYTES, SegmentHeader, pack_segment_header

MAPPED = 4
"""Segments kept mapped; each holds a file descriptor."""
NEVER = sys.maxsize


class Rotation(Place):
    """The segment being written, the next one, and those that are not committed yet. ``_lock`` guards all of it.

    ``half_full`` is called when the next segment should be prepared, and must not raise. ``dropped`` counts values and records that could
    not be kept.
    """

    def __init__(self, directory: Path, session: str, segment_bytes: int, cap_bytes: int) -> None:
        self.session = session
        self.dropped = 0
        self.half_full: Callable[[], None] | None = None
        self._lock = threading.RLock()
        self._off = ""
        self._once = Once()
        self._names: dict[int, list[str]] = {}
        self._next = 1
        self._view: memoryview | None = None
        self._mapped = None  # what ``_view`` is a view of: packed into directly, two objects fewer are touched
        self._at = 0
        self._limit = 0
        self._active: Segment | None = None
        self._spare: Segment | None = None
        self._segments: tuple[Segment, ...] = ()
        self._supply = Supply(directory, session, segment_bytes, cap_bytes, self._once)
        self._lost_since: int | None = None

    def _make_room(self, length: int) -> bool:
        """Make room for a record of ``length`` bytes at ``_at``, or say that there is none. Under the lock, and itself
        interruptible."""
        if self._off:
            if self._off == "forked":
                self._once("off", "a forked child of the training logs: only the training process itself is recorded")
            return False
        active = self._active
        if active is not None and self._limit < active.size:  # only half of it was given so far
            self._limit = active.size
            if self.half_full is not None:
                self.half_full()
            return True
        spare = self._spare
        self._spare = None
        need = length + HEADER_BYTES + self._schema_bytes()
        if spare is not None and spare.size < need:
            spare.delete()
            spare = None
        if spare is None:
            spare = self._make(need, None)
            if spare is None:
                if self._lost_since is None:
                    self._lost_since = self.dropped
                return False
        try:
            if not self._switch(active, spare):
                return True
        finally:  # interrupted, or overtaken: a file that holds nothing
            if spare not in self._segments[-8:]:
                spare.delete()
        return True

    def _schema_bytes(self) -> int:
        return len(msgspec.msgpack.encode(self._names)) + 16 if self._names else 16

    def _switch(self, old: Segment | None, new: Segment) -> bool:
        """Go on in ``new``; False where a signal handler's log came to the same point and was faster."""
        view = new.data()
        mapped = view.obj
        while self._active is old:
            first = self._next
            header = SegmentHeader(
                session=self.session,
                first_seq=first,
                wall_ns=time_ns(),
                mono_ns=monotonic_ns(),
                size=new.size,
                data_at=0,
                schemas=self._names,
            )
            data_at = pack_segment_header(view, header)
            new.begin(first, data_at)
            half = data_at + (new.size - data_at) // 2
            known = self._segments
            segments = (*known, new)
            # From here to the return no call and no container: whoever logs in the midst sees the old segment or the new one.
            if self._next == first and self._active is old and self._segments is known:
                if old is not None:
                    old.end = self._at
                    old.last = first - 1
                self._segments = segments
                self._active = new
                self._view = view
                self._mapped = mapped
                self._at = data_at
                self._limit = half
                return True
        return False

    def _make(self, need: int, breathing: Callable[[], None] | None) -> Segment | None:
        segment = self._supply.make(need, self._held, self._drop_oldest, breathing)
        if segment is not None:
            for old in self._segments[-MAPPED - 8 : -MAPPED]:
                old.unmap()
        return segment

    def _held(self) -> int:
        return sum(s.size for s in self._segments)

    def _drop_oldest(self) -> Segment | None:
        with self._lock:
            return self._without_oldest(NEVER)

    def _without_oldest(self, seq: int) -> Segment | None:
        """Take out the oldest, where it ends at or below ``seq``; None where it does not, or is being written."""
        while True:
            known = self._segments
            if not known or known[0] is self._active or known[0].last > seq:
                return None
            rest = known[1:]
            if self._segments is known:  # else somebody logged while that was allocated, and went on in another segment
                self._segments = rest
                return known[0]

    def prepare(self) -> None:
        """Have the next segment ready. Called by the control thread when ``half_full`` asked for it; takes
        milliseconds, mostly asleep."""
        if self._off or self._spare is not None or self._active is None:
            return
        self._supply.look_around()
        segment = self._make(HEADER_BYTES + self._schema_bytes() + PAGE, breathe)
        if segment is None:
            return
        with self._lock:
            active = self._active
            # Where the training thread could not wait and made a later one itself, this one would be out of order.
            in_order = active is not None and active.path < segment.path
            if in_order and self._spare is None and not self._off and self._active is active:
                self._spare = segment
                return
        segment.delete()

    @property
    def wants_spare(self) -> bool:
        """Whether ``prepare`` has something to do."""
        active = self._active
        return active is not None and self._spare is None and self._limit == active.size and not self._off

    def committed(self, seq: int) -> None:
        """Everything up to ``seq`` is in the history: whole segments below are deleted. The one being written never
        is."""
        gone: list[Segment] = []
        with self._lock:
            if self._off == "forked":
                return
            while (segment := self._without_oldest(seq)) is not None:
                gone.append(segment)
        for segment in gone:
            try:
                segment.delete()
            except OSError as e:
                self._once("delete", f"cannot delete {segment.path}: {e.strerror}")
