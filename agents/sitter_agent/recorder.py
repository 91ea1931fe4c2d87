"""What the training logs, in a file before ``log`` returns: memory-mapped segments that survive ``kill -9``.

Three things may interrupt a ``log``: another thread (held off by the lock), a signal handler that logs as well, and an
exception that a signal handler raises (the user's Ctrl-C). CPython runs handlers only after a call or at a jump back;
the garbage collector, whose callbacks and finalizers may log as well, runs up to 3.11 wherever a container is allocated
(``a, b, c, d = …`` makes a tuple of four). So wherever a slot is reserved or a segment switched below, it is done in
straight lines without a call or a container, and is whole or not begun. What a handler may see is a slot that is
reserved and not yet packed: it gets one of its own behind it. What an exception may leave is an empty slot: it is
filled with a hole. Values whose names are known go without the lock
(``quick``): to all that is done under it, such a record is one that a handler wrote.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic_ns
from typing import Any

import msgspec

from sitter_agent import quick
from sitter_agent.as_float import as_floats
from sitter_agent.fork import watch
from sitter_agent.handlers import raised_by_handler
from sitter_agent.rotation import NEVER, Rotation
from sitter_agent.say import in_words
from sitter_agent.segments import PAGE
from sitter_agent.stretch import Stretch, stretch_of
from sitter_wire.events import AnyEvent, Remark
from sitter_wire.records import (
    EVENT,
    FIRST_USER_SCHEMA,
    MAX_RECORD,
    OVERHEAD,
    SCHEMA,
    blob_bytes,
    pack_blob,
    pack_hole,
    point_struct,
    point_word,
)

MOST_SCHEMAS = 1000
"""Beyond it (names in ever new combinations) values are written one to a record; beyond as many single names again they
are dropped."""

Pattern = tuple[Callable[..., None], int, int]
"""How values under one set of names are written: the packer of the whole record, its first word, its length in bytes."""


class Recorder(Rotation):
    """Writes one session's records. Never raises, never waits for anything but its own lock.

    ``directory`` is the run's ``recorder/``; files go to ``directory/session/``. ``cap_bytes`` bounds the files of all
    sessions there together. ``dropped`` counts values and records that could not be kept. ``half_full`` is called when
    the next segment should be prepared, and ``ship`` by the first ``log`` at or after monotonic nanosecond ``ship_at``;
    both must not raise.
    """

    def __init__(
        self, directory: Path, session: str, *, branch: int = 0, segment_bytes: int = 1 << 20, cap_bytes: int = 1 << 30
    ) -> None:
        super().__init__(directory, session, segment_bytes, cap_bytes)
        self.directory = directory
        self.ship: Callable[[], None] | None = None
        self.ship_at = NEVER
        self._depth = 0
        self._branch = branch
        self._schemas: dict[tuple[str, ...], Pattern] = {}
        self._next_schema = FIRST_USER_SCHEMA
        self._holes: list[tuple[Any, int, int, int]] = []
        watch(self)
        with self._lock:
            self._room(0, 0, branch)

    # ------------------------------------------------------------------ writing

    def log(self, step: int, branch: int, values: Mapping[str, object]) -> None:
        """Record values of one step. They are in the file when this returns, or counted in ``dropped``."""
        try:
            numbers = list(values.values())
            for value in numbers:
                if type(value) is not float:
                    values, numbers = self._convert(values)
                    break
        except Exception as e:  # nothing of ours may reach the training
            if raised_by_handler(e):
                raise
            self._could_not(e)
            return
        self._write(step, branch, tuple(values), numbers)

    def short_way(self, names: tuple[str, ...]) -> quick.Put | None:
        """``log`` for exact floats under these names, at a third of its cost; holds for the recorder's life.

        None where there is no such way: they were not logged yet, or are too many.
        """
        pattern = self._schemas.get(names)
        if pattern is None or not quick.possible(len(names)):
            return None
        return quick.make(self, len(names), pattern[1], self._ship, self._holes, self._fill_holes)

    def _ship(self) -> None:
        if self.ship is not None and not self._depth:
            self.ship()

    def _write(self, step: int, branch: int, names: tuple[str, ...], numbers: list[Any]) -> None:
        now = monotonic_ns()
        try:
            with self._lock:
                outer = self._depth
                try:
                    self._depth = outer + 1
                    pattern = self._schemas.get(names) or self._declare(names, step, branch, now)
                    if pattern is None:
                        self._log_singly(step, branch, dict(zip(names, numbers, strict=True)))
                        return
                    pack_into, word, length = pattern
                    while self._at + length > self._limit:
                        if not self._room(length, step, branch):
                            self.dropped += 1
                            return
                    # From here to pack_into nobody comes between: no call, no jump back, and no container is allocated.
                    at = self._at
                    seq = self._next
                    view = self._view
                    mapped = self._mapped
                    self._at = at + length
                    self._next = seq + 1
                    try:
                        pack_into(mapped, at, word, step, branch, now, *numbers, seq)
                    except BaseException:  # what a signal handler raises: the reserved slot becomes a hole, and it is raised again
                        self._holes.append((view, at, length, seq))
                        self._fill_holes()
                        raise
                finally:
                    self._depth = outer
            if now >= self.ship_at:
                self._ship()
        except Exception as e:  # nothing of ours may reach the training
            if raised_by_handler(e):
                raise
            self._could_not(e)

    def _could_not(self, error: Exception) -> None:
        self.dropped += 1
        self._once("log", f"values could not be recorded ({in_words(error)}); further ones are only counted")

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
        kept, refused = as_floats(values)
        for name, error in refused:
            self.dropped += 1
            self._once(
                "value", f"{name} is not a number and was not recorded ({in_words(error)}); further ones are counted"
            )
        return kept, list(kept.values())

    def _declare(
        self, names: tuple[str, ...], step: int, branch: int, now: int
    ) -> Pattern | None:
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
                at = self._at
                seq = self._next
                view = self._view
                self._at = at + length
                self._next = seq + 1
                try:
                    pack_blob(view, at, schema, step, branch, now, payload, seq)  # type: ignore[arg-type]
                except BaseException:  # what a signal handler raises: the reserved slot becomes a hole, and it is raised again
                    self._holes.append((view, at, length, seq))
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

    def _room(self, length: int, step: int, branch: int) -> bool:
        if not self._make_room(length):
            return False
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

    # ------------------------------------------------------------------ reading

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
                # Whoever logged in there may have gone on in another segment; then this one was told its end.
                if active is self._active:
                    active.end = self._at
                    active.last = self._next - 1
            segments = self._segments
        return stretch_of(segments, self.session, max(first, 1), max_bytes, self._names)

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
