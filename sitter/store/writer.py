"""The one writer of history.db: a thread that takes what the daemon gives it and commits it every 250 ms, or at leisure (``pace.py``).

Nothing here blocks the daemon or raises into it. What cannot be written now (disk full, database locked) is kept and tried again; when too
much is kept, records are refused, and since only what is committed is ever acknowledged, the agent still has them.
"""

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

import sitter.store.sql as sql
from sitter.clock import Clock
from sitter.errors import DamagedError
from sitter.model import CheckpointInfo, GpuNow, Incident, LogEntry
from sitter.store.growing import Growing, Statement
from sitter.store.happenings import Happenings
from sitter.store.known_session import KnownSession
from sitter.store.pace import Pace
from sitter.store.place import PUT_BACK_WITHIN, Place
from sitter.store.promises import Promises
from sitter.store.schema import GONE, open_writer, store_error
from sitter.store.statements import execute
from sitter_wire.records import Happening, Point, Record

log = logging.getLogger(__name__)

MOST = 60_000
"""Records kept at most (about 20 MiB at 4 signals); beyond it they are refused until commits succeed again."""

MOST_STATEMENTS = 20_000
"""Logbook lines and such kept at most while nothing can be written; beyond it the oldest are given up, and ``dropped`` counts them. As many
again wait for the thread at most, which a dead file system may hold inside one call for hours: then the newest are given up."""

_RETRY_FIRST, _RETRY_LAST = 0.25, 5.0
_CLOSE_WITHIN = 10.0
"""Seconds that ``close`` waits for the last commit."""

_encode = msgspec.msgpack.Encoder().encode


class Writer:
    """Opens (and makes, checks, migrates) the history at once: raises StoreError. ``start`` begins the thread.

    ``on_commit({session: last committed sequence})`` is called from the writer's thread after each commit, with the sessions that got
    further in it. All other methods may be called from any thread and return at once.
    """

    def __init__(self, path: Path, *, on_commit: Callable[[dict[str, int]], None], clock: Clock) -> None:
        self._path, self._on_commit, self._clock = path, on_commit, clock
        self._connection = open_writer(path)
        try:
            self._growing = Growing(self._connection)
            self._sessions = {
                name: KnownSession(number, wall_ns, mono_ns, last)
                for number, name, wall_ns, mono_ns, last in self._connection.execute(
                    "SELECT id, session, wall_ns, mono_ns, last_seq FROM sessions"
                )
            }
            self._log_id = int(self._connection.execute("SELECT coalesce(max(id), 0) FROM logbook").fetchone()[0])
        except sqlite3.Error as e:
            self._connection.close()
            raise store_error(e, path) from e
        except (ValueError, TypeError, LookupError, msgspec.MsgspecError) as e:
            self._connection.close()
            raise store_error(ValueError(f"malformed: {e}"), path) from e
        # Shared between threads, all under the condition's lock:
        self._changed = threading.Condition()
        self._pace = Pace()
        self._queue: deque[tuple[str, Any, Any]] = deque()
        self._waiting_records = 0
        self._kept = 0
        self._refused: dict[str, int] = {}
        self._closing = self._ended = self._hurry = False
        self._given, self._done = 0, 0
        self._promises = Promises()
        # The thread's own. What follows from records is never given up; the daemon's own words are, when there is no end of them.
        self._unapplied: deque[tuple[str, Any, Any]] = deque()
        self._derived: list[Statement] = []
        self._words: list[Statement] = []
        self._advanced: set[str] = set()
        self._taken = 0
        self._happenings, self._place = Happenings(), Place(path)
        self._thread = threading.Thread(target=self._run, name="sitter-store", daemon=True)
        self.trouble: str | None = None
        self.damaged = False
        """Whether ``trouble`` is one that no trying again will mend."""
        self.gone = False
        """Whether the file was deleted or replaced; ``close`` puts it back."""
        self.dropped = 0
        self.at_leisure = False
        """Whether the commit that ``on_commit`` tells of is one that nobody waits for."""

    # -- called by the daemon, from any thread -----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin committing. What was given before is kept until now."""
        self._thread.start()

    def records(self, session: str, records: list[Record]) -> bool:
        """New records of one session in sequence order. False: refused, since too much waits already; give them again later.

        After a refusal everything past it is refused too, until the refused ones come (again), so that no hole arises. Records that are
        stored already are passed over.
        """
        if not records:
            return True
        with self._changed:
            refused = self._refused.get(session)
            if refused is not None and records[0].seq > refused:
                return False
            if not self.room:
                self._refused[session] = records[0].seq
                return False
            self._refused.pop(session, None)
            self._waiting_records += len(records)
            self._put("records", session, records, records=len(records), pressing=any(type(r) is not Point for r in records))
        return True

    @property
    def room(self) -> bool:
        """Whether ``records`` would be taken now."""
        return not self._ended and self._waiting_records + self._kept < MOST

    @property
    def ended(self) -> bool:
        """Its thread has ended by an error of its own: what is given from now on is only counted, and another writer has to go on."""
        return self._ended and not self._closing

    def session(self, session: str, wall_ns: int, mono_ns: int, pid: int | None = None, host: str | None = None) -> None:
        """A session's wall/monotonic clock pair (nanoseconds, read together), by which its times become wall times."""
        self._give("session", session, (wall_ns, mono_ns, pid, host))

    def branch(self, branch: int, session: str, parent_branch: int | None, parent_step: int | None, started: float | None) -> None:
        """A branch: where it came from (None, None: from nothing) and when (unix seconds). Also read from the events themselves."""
        self._give("sql", sql.BRANCH, (branch, session, parent_branch, parent_step, started))

    def log(self, entry: LogEntry) -> int:
        """A line of the logbook; its own ``id`` is ignored, the one given to it is returned."""
        with self._changed:
            self._log_id += 1
            number = self._log_id
            self._put("sql", sql.LOG, (
                number, entry.time, entry.kind, entry.step, entry.branch, entry.rule, entry.action, entry.status, entry.detail,
            ))  # fmt: skip
        return number

    def incident(self, incident: Incident) -> None:
        """A new incident, or the present form of a known one."""
        i = incident
        self._give("sql", sql.INCIDENT, (
            i.id, i.rule, i.branch, i.onset, i.began, i.text, i.ended, i.verdict, i.steps_lost, i.seconds_lost,
        ))  # fmt: skip

    def checkpoint(self, info: CheckpointInfo) -> None:
        """A new checkpoint, or the present form of a known one (by its path)."""
        i = info
        self._give("sql", sql.CHECKPOINT, (
            i.path, i.branch, i.step, i.bytes, i.good, i.verified, i.pinned, i.best, i.time, i.sha256,
        ))  # fmt: skip

    def forget_checkpoint(self, path: str) -> None:
        """A checkpoint is no longer on disk."""
        self._give("sql", "DELETE FROM checkpoints WHERE path = ?", (path,))

    def host(self, time: float, values: Mapping[str, float | None]) -> None:
        """Figures of the machine at a wall time (unix seconds); None is unknown and left out."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        if known:
            with self._changed:
                self._put("host", time, known, pressing=False)

    def gpus(self, time: float, gpus: list[GpuNow]) -> None:
        """The machine's GPUs in words, as they are from a wall time (unix seconds) on."""
        self._give("sql", sql.GPUS, (round(time * 1e9) // 1000, _encode(gpus)))

    def set(self, key: str, value: object) -> None:
        """Small state of the daemon's that outlives it; anything msgpack carries. Raises TypeError for what it does not."""
        self._give("sql", "INSERT OR REPLACE INTO state VALUES (?, ?)", (key, _encode(value)))

    def leisure(self, leisure: bool) -> None:
        """Whether a few values may wait for some seconds: nobody looks at the history now."""
        if leisure != self._pace.leisure:
            with self._changed:
                self._pace.leisure = leisure
                self._changed.notify_all()

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until all that was given is committed; False if that took longer. For whoever has no loop to keep free."""
        with self._changed:
            goal = self._given
            self._hurry = self._hurry or self._taken < goal  # what is being committed just now needs no other turn
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= goal or not self._thread.is_alive(), timeout) and self._done >= goal

    def when_safe(self, told: Callable[[bool], None]) -> None:
        """Commits soon, and tells whether all that was given until now is on disk; False as soon as it turns out that it cannot be written.
        ``told`` is called once, from the writer's thread, or at once where nothing can be written. For what is promised to somebody."""
        with self._changed:
            if not (in_vain := self._ended or self.trouble is not None):
                self._promises.add(self._given, told)
                self._hurry = True
                self._changed.notify_all()
        if in_vain:
            told(False)

    def close(self) -> bool:
        """Commits all and ends the thread; gives up after 10 s where nothing can be written, but not while a history that is gone is being
        put back. False: it has not ended."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is None:
            self._thread.start()
        self._thread.join(_CLOSE_WITHIN)
        if self._place.puts_back:
            self._thread.join(PUT_BACK_WITHIN)
        if alive := self._thread.is_alive():
            log.error("the history could not be closed in %.0f s: %s", _CLOSE_WITHIN, self.trouble)
        return not alive

    def _give(self, kind: str, subject: Any, detail: Any) -> None:
        with self._changed:
            self._put(kind, subject, detail)

    def _put(self, kind: str, subject: Any, detail: Any, *, records: int = 0, pressing: bool = True) -> None:
        """Into the queue, under the lock; wakes the thread where it would not see to it in time by itself."""
        self._given += 1
        if self._ended or (not records and len(self._queue) >= MOST_STATEMENTS):
            self.dropped += 1
            return
        self._queue.append((kind, subject, detail))
        if self._pace.came(time.monotonic(), records=records, pressing=pressing):
            self._changed.notify_all()

    # -- the thread ----------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        retry = 0.0
        ending: float | None = None
        try:
            while True:
                self._wait(retry)
                closing = self._drain()
                retry = 0.0 if self._commit() else min(max(2 * retry, _RETRY_FIRST), _RETRY_LAST)
                if closing:
                    ending = ending or time.monotonic() + _CLOSE_WITHIN / 2
                    if not (retry or self._queue) or self.gone or time.monotonic() > ending:
                        break
        except BaseException:  # said before the thread ends, whatever ends it; raised again
            self.trouble = "the history's thread ended by an error of its own: nothing is stored any more; see daemon.log, and start again"
            log.exception("sitter-store ended")
            raise
        finally:
            try:
                if self._place.lost():
                    self._place.put_back(self._connection, self._commit, self._clock.wall())
                self._connection.close()
            finally:
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()
                self._promises.broken()

    def _wait(self, retry: float) -> None:
        """Until a commit is due or there is hurry; after a failure ``retry`` seconds."""
        changed = self._changed
        with changed:
            if retry:
                changed.wait(min(retry, _RETRY_FIRST) if self._closing else retry)
                return
            while not (self._closing or self._hurry) and (left := self._pace.wait(time.monotonic())) != 0.0:
                changed.wait(left)

    def _drain(self) -> bool:
        """The queue's content becomes the thread's own; says whether this is the end."""
        with self._changed:
            self._hurry = False
            self.at_leisure = self._pace.taken(time.monotonic())
            self._unapplied.extend(self._queue)
            self._queue.clear()
            self._kept += self._waiting_records
            self._waiting_records = 0
            self._taken = self._given
            return self._closing

    def _apply_all(self) -> None:
        """Takes everything into memory. sqlite3.Error (an open chunk could not be read back) leaves the thing and what follows untaken."""
        while self._unapplied:
            kind, subject, detail = self._unapplied[0]
            try:
                self._apply(kind, subject, detail)
            except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as e:
                # One thing that cannot be stored must not keep the others from it.
                self.dropped += 1
                log.error("not stored (%s): %s", kind, e)
            self._unapplied.popleft()

    def _apply(self, kind: str, subject: Any, detail: Any) -> None:
        if kind == "sql":
            self._words.append((subject, detail))
        elif kind == "records":
            self._records(subject, detail)
        elif kind == "host":
            names = tuple(detail)
            seq = self._growing.last_host_seq(names) + 1
            self._growing.take(0, [Point(seq, 0, 0, round(subject * 1e9), names, tuple(detail.values()))], host=True)
        else:
            wall_ns, mono_ns, pid, host = detail
            known = self._session(subject, (wall_ns, mono_ns))
            known.wall_ns, known.mono_ns = wall_ns, mono_ns
            self._derived.append((sql.SESSION, (wall_ns, mono_ns, pid or None, host, known.number)))

    def _session(self, session: str, clock: tuple[int, int] | None = None) -> KnownSession:
        known = self._sessions.get(session)
        if known is None:
            wall_ns, mono_ns = clock or (round(self._clock.wall() * 1e9), round(self._clock.monotonic() * 1e9))
            number = max((s.number for s in self._sessions.values()), default=0) + 1
            known = self._sessions[session] = KnownSession(number, wall_ns, mono_ns, 0)
            self._derived.append((sql.NEW_SESSION, (number, session, wall_ns, mono_ns)))
        return known

    def _records(self, session: str, records: list[Record]) -> None:
        known = self._session(session)
        if records[0].seq <= known.last:
            records = [r for r in records if r.seq > known.last]
            if not records:
                return
        points = [r for r in records if type(r) is Point]
        if len(points) < len(records):
            for record in records:
                if isinstance(record, Happening):
                    self._derived += self._happenings.statements(session, known, record)
        for branch in (self._growing.take(known.number, points) if points else set()) - known.branches:
            # The event that opened a branch was read before its points. Should it be missing, they would never be drawn.
            known.branches.add(branch)
            first = next(p for p in points if p.branch == branch)
            self._derived.append((sql.BRANCH_SEEN, (branch, session, None, None, known.wall(first.time))))
        known.last = records[-1].seq
        self._advanced.add(session)

    def _commit(self) -> bool:
        """One transaction with everything that is kept; False if it has to be tried again."""
        connection = self._connection
        try:
            self._place.check()
            self._apply_all()
            connection.execute("BEGIN IMMEDIATE")
            self.dropped += execute(connection, self._derived) + execute(connection, self._words)
            self._growing.write()
            ends = [(self._sessions[s].last, self._sessions[s].number) for s in self._advanced]
            connection.executemany("UPDATE sessions SET last_seq = ? WHERE id = ?", ends)
            connection.execute("COMMIT")
        except sqlite3.Error as e:
            self._failed(e)
            return False
        self._place.take()
        self._growing.committed()
        self._derived.clear()
        self._words.clear()
        if self.trouble:
            log.warning("the history is written again")
            self.trouble, self.damaged, self.gone = None, False, False
        advanced = {session: self._sessions[session].last for session in self._advanced}
        self._advanced.clear()
        with self._changed:
            self._kept = 0
            self._done = self._taken
            self._changed.notify_all()
        self._promises.kept(self._done)
        try:
            self._on_commit(advanced)
        except Exception:  # what is told of a commit is another part: its bug must not undo what is stored
            log.exception("after a commit")
        return True

    def _failed(self, error: sqlite3.Error) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as e:
            log.warning("rolling back: %s", e)
        found = store_error(error, self._path)
        sentence = str(found)
        self.damaged, self.gone = isinstance(found, DamagedError), GONE in str(error)
        if sentence != self.trouble:
            log.error("%s; kept, and tried again", sentence)
        self.trouble = sentence
        excess = len(self._words) - MOST_STATEMENTS
        if excess > 0:
            del self._words[:excess]
            self.dropped += excess
        self._promises.broken()
