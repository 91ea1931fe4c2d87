"""What the training logs, in a file before ``log`` returns: memory-mapped segments that survive ``kill -9``.

Three things may interrupt a ``log``: another thread (held off by the lock), a signal handler that logs as well, and an
exception that a signal handler raises (the user's Ctrl-C). CPython runs handlers only after a call or at a jump back;
so wherever a slot is reserved or a segment switched below, it is done in straight lines without a call, and is whole or
not begun. What a handler may see is a slot that is reserved and not yet packed: it gets one of its own behind it. What
an exception may leave is an empty slot: it is filled with a hole.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic_ns, time_ns

import msgspec

from sitter_agent.exact import exact_all
from sitter_agent.fork import watch
from sitter_agent.handlers import raised_by_handler
from sitter_agent.say import Once, in_words
from sitter_agent.segments import PAGE, Segment, breathe
from sitter_agent.stretch import Stretch, stretch_of
from sitter_agent.supply import Supply
from sitter_wire.events import AnyEvent, Remark
from sitter_wire.records import (
    EVENT,
    FIRST_USER_SCHEMA,
    HEADER_BYTES,
    MAX_RECORD,
    OVERHEAD,
    SCHEMA,
    SegmentHeader,
    blob_bytes,
    pack_blob,
    pack_hole,
    pack_segment_header,
    point_struct,
    point_word,
)

MOST_SCHEMAS = 1000
"""Beyond it (names in ever new combinations) values are written one to a record; beyond as many single names again they
are dropped."""
MAPPED = 4
"""Segments kept mapped; each holds a file descriptor."""
NEVER = sys.maxsize


class Recorder:
    """Writes one session's records. Never raises, never waits for anything but its own lock.

    ``directory`` is the run's ``recorder/``; files go to ``directory/session/``. ``cap_bytes`` bounds the files of all
    sessions there together. ``dropped`` counts values and records that could not be kept. ``half_full`` is called when
    the next segment should be prepared, and ``ship`` by the first ``log`` at or after monotonic nanosecond ``ship_at``;
    both must not raise.
    """

    def __init__(
        self, directory: Path, session: str, *, branch: int = 0, segment_bytes: int = 1 << 20, cap_bytes: int = 1 << 30
    ) -> None:
        self.session, self.directory = session, directory
        self.dropped = 0
        self.half_full: Callable[[], None] | None = None
        self.ship: Callable[[], None] | None = None
        self.ship_at = NEVER
        self._lock = threading.RLock()
        self._depth = 0
        self._off = ""
        self._once = Once()
        self._branch = branch
        self._schemas: dict[tuple[str, ...], tuple[Callable[..., None], int, int]] = {}
        self._names: dict[int, list[str]] = {}
        self._next_schema = FIRST_USER_SCHEMA
        self._next = 1
        self._view: memoryview | None = None
        self._at = 0
        self._limit = 0
        self._active: Segment | None = None
        self._spare: Segment | None = None
        self._segments: tuple[Segment, ...] = ()
        self._holes: list[tuple[memoryview, int, int, int]] = []
        self._supply = Supply(directory, session, segment_bytes, cap_bytes, self._once)
        self._lost_since: int | None = None
        watch(self)
        with self._lock:
            self._room(0, 0, branch)

    # ------------------------------------------------------------------ writing

    def log(self, step: int, branch: int, values: Mapping[str, object]) -> None:
        """Record values of one step. They are in the file when this returns, or counted in ``dropped``."""
        now = monotonic_ns()
        try:
            numbers = list(values.values())
            for value in numbers:
                if type(value) is not float:
                    values, numbers = self._convert(values)
                    break
            names = tuple(values)
            with self._lock:
                outer = self._depth
                try:
                    self._depth = outer + 1
                    schema = self._schemas.get(names) or self._declare(names, step, branch, now)
                    if schema is None:
                        self._log_singly(step, branch, values)
                        return
                    pack_into, word, length = schema
                    while self._at + length > self._limit:
                        if not self._room(length, step, branch):
                            self.dropped += 1
                            return
                    # From here to pack_into a signal handler cannot come between: no call, no jump back.
                    at, seq, view = self._at, self._next, self._view
                    self._at = at + length
                    self._next = seq + 1
                    try:
                        pack_into(view, at, word, step, branch, now, *numbers, seq)
                    except BaseException:
                        self._holes.append((view, at, length, seq))  # type: ignore[arg-type]
                        self._fill_holes()
                        raise
                finally:
                    self._depth = outer
            if now >= self.ship_at and not outer and self.ship is not None:
                self.ship()
        except Exception as e:  # nothing of ours may reach the training
            if raised_by_handler(e):
                raise
            self.dropped += 1
            self._once("log", f"values could not be recorded ({in_words(e)}); further ones are only counted")

    def event(self, event: AnyEvent, step: int, branch: int) -> int:
        """Record an event; its sequence number, or 0 where it could not be kept. Never raises."""
        try:
            seq = self._blob(EVENT, msgspec.msgpack.encode(event), step, branch, monotonic_ns())
            self.dropped += not seq
            return seq
        except Exception as e:  # nothing of ours may reach the training
            if raised_by_handler(e):
                raise
            self.dropped += 1
            self._once("event", f"an event ({type(event).__name__}) could not be recorded ({in_words(e)})")
            return 0

    def _convert(self, values: Mapping[str, object]) -> tuple[dict[str, float], list[object]]:
        kept, refused = exact_all(values)
        for name, error in refused:
            self.dropped += 1
            self._once(
                "value", f"{name} is not a number and was not recorded ({in_words(error)}); further ones are counted"
            )
        return kept, list(kept.values())

    def _declare(
        self, names: tuple[str, ...], step: int, branch: int, now: int
    ) -> "tuple[Callable[..., None], int, int] | None":
        """A schema for these names; None where they are better written singly, or not at all."""
        n = len(self._names)
        if (
            not names
            or len(names) > (MAX_RECORD - OVERHEAD) // 8
            or n >= (MOST_SCHEMAS if len(names) > 1 else 2 * MOST_SCHEMAS)
        ):
            return None
        clean = [str(name).encode("utf-8", "replace").decode() for name in names]
        number = self._next_schema
        self._next_schema = number + 1
        # Known to segment headers before it is declared, and to log only after: a handler or an exception in between
        # costs a number only.
        self._names[number] = clean
        if not self._blob(SCHEMA, msgspec.msgpack.encode((number, clean)), step, branch, now):
            del self._names[number]
            return None
        packer = point_struct(len(names))
        found = self._schemas[names] = (packer.pack_into, point_word(number, len(names)), packer.size)
        return found

    def _log_singly(self, step: int, branch: int, values: Mapping[str, object]) -> None:
        if not values:
            return
        if len(self._names) < MOST_SCHEMAS:  # there was no room for a declaration
            self.dropped += 1
        elif len(values) > 1:
            text = f"over {MOST_SCHEMAS} combinations of names were logged; from here on each is recorded by itself"
            self._once("schemas", text)
            for name, value in values.items():
                self.log(step, branch, {name: value})
        else:
            self.dropped += 1
            if len(self._names) >= 2 * MOST_SCHEMAS:
                self._once("names", f"over {2 * MOST_SCHEMAS} sets of names were logged; new ones are not recorded")

    def _blob(self, schema: int, payload: bytes, step: int, branch: int, now: int) -> int:
        length = blob_bytes(payload)
        if length > MAX_RECORD:
            raise ValueError(f"{length} bytes, at most {MAX_RECORD} fit in a record")
        with self._lock:
            outer = self._depth
            try:
                self._depth = outer + 1
                while self._at + length > self._limit:
                    if not self._room(length, step, branch):
                        return 0
                at, seq, view = self._at, self._next, self._view
                self._at = at + length
                self._next = seq + 1
                try:
                    pack_blob(view, at, schema, step, branch, now, payload, seq)  # type: ignore[arg-type]
                except BaseException:
                    self._holes.append((view, at, length, seq))  # type: ignore[arg-type]
                    self._fill_holes()
                    raise
                return seq
            finally:
                self._depth = outer

    def _fill_holes(self) -> None:
        while self._holes:
            hole = self._holes[-1]
            view, at, length, seq = hole
            if not any(view[at + length - 8 : at + length]):  # else it was packed, and interrupted only after that
                now = monotonic_ns()
                pack_hole(view, at, length, 0, self._branch, now, seq)
            if self._holes and self._holes[-1] is hole:
                self._holes.pop()

    # ------------------------------------------------------------------ segments

    def _room(self, length: int, step: int, branch: int) -> bool:
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
        self._take_notes(step, branch)
        return True

    def _take_notes(self, step: int, branch: int) -> None:
        """Record what happened to segments while there was no room to say so."""
        refused, since = self._supply.refused, self._lost_since
        self._supply.refused = self._lost_since = None
        if refused is not None and since is not None:
            text = f"{self.dropped - since} values or records were not kept: {refused.strerror}"
            self._supply.notes.append(Remark(text=text, level="warning"))
        while self._supply.notes:
            payload = msgspec.msgpack.encode(self._supply.notes.pop(0))
            self._blob(EVENT, payload, step, branch, monotonic_ns())

    def _schema_bytes(self) -> int:
        return len(msgspec.msgpack.encode(self._names)) + 16 if self._names else 16

    def _switch(self, old: Segment | None, new: Segment) -> bool:
        """Go on in ``new``; False where a signal handler's log came to the same point and was faster."""
        view = new.data()
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
            # From here to the return no call: a handler's log sees the old segment or the new one.
            if self._next == first and self._active is old:
                if old is not None:
                    old.end, old.last = self._at, first - 1
                self._segments = (*self._segments, new)
                self._active, self._view, self._at, self._limit = new, view, data_at, half
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
            oldest = self._segments[0] if self._segments else None
            if oldest is None or oldest is self._active:
                return None
            self._segments = self._segments[1:]
            return oldest

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
            if self._spare is None and not self._off and active is not None and active.path < segment.path:
                self._spare = segment
                return
        segment.delete()

    # ------------------------------------------------------------------ reading

    @property
    def wants_spare(self) -> bool:
        """Whether ``prepare`` has something to do."""
        active = self._active
        return active is not None and self._spare is None and self._limit == active.size and not self._off

    @property
    def written(self) -> int:
        """The last sequence number given out."""
        return self._next - 1

    @property
    def depth(self) -> int:
        """How many calls of ``log`` or ``event`` are under way, one inside the other."""
        return self._depth

    def mark(self) -> None:
        """Remember where the next record will begin, so that a later shipment is cut without reading every record
        before it."""
        with self._lock:
            if self._active is not None and not self._depth:
                self._active.mark(self._next, self._at, PAGE)

    def stretch(self, first: int, max_bytes: int) -> Stretch | None:
        """Contiguous whole records from ``first`` on, at most ``max_bytes`` (one record at least). None where there are
        none, or where this thread is inside ``log``.

        Where ``first`` lies below the oldest segment, what is left is shipped and ``lost_from`` says what is not. Any
        thread. Raises OSError where a segment cannot be mapped again.
        """
        with self._lock:
            if self._depth or self._off == "forked":
                return None
            self._fill_holes()
            active = self._active
            if active is not None:
                active.mark(self._next, self._at)
                active.end, active.last = self._at, self._next - 1
            segments = self._segments
        return stretch_of(segments, self.session, max(first, 1), max_bytes, self._names)

    def committed(self, seq: int) -> None:
        """Everything up to ``seq`` is in the history: whole segments below are deleted. The one being written never
        is."""
        gone: list[Segment] = []
        with self._lock:
            if self._off == "forked":
                return
            while self._segments and self._segments[0] is not self._active and self._segments[0].last <= seq:
                gone.append(self._segments[0])
                self._segments = self._segments[1:]
        for segment in gone:
            try:
                segment.delete()
            except OSError as e:
                self._once("delete", f"cannot delete {segment.path}: {e.strerror}")

    # ------------------------------------------------------------------ ending

    def close(self) -> None:
        """Record nothing more. What is in the files stays there for the daemon."""
        if self._off == "forked":
            return
        with self._lock:
            self._off = self._off or "closed"
            self._limit = -1
            spare, self._spare = self._spare, None
            if self._active is not None:
                self._active.end, self._active.last = self._at, self._next - 1
        if spare is not None:
            try:
                spare.delete()
            except OSError as e:
                self._once("delete", f"cannot delete {spare.path}: {e.strerror}")

    def forked(self) -> None:
        """In a forked child: write no more to the memory shared with the parent, whose lock may be held by a thread
        that is not here."""
        self._lock = threading.RLock()
        self._depth = 0
        self._off = "forked"
        self._limit = -1
        self._spare = None
        self.ship_at = NEVER
        self.ship = self.half_full = None
