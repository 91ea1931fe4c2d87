"""What an event means to the tables: its own row, and what follows from it."""

from collections import Counter
from typing import get_args

import msgspec

import sitter.store.sql as sql
from sitter.store.growing import Statement
from sitter.store.known_session import KnownSession
from sitter_wire.events import AnyEvent, DamagedRecord, Hole, Restored, SessionStart, SnapshotTaken, UnknownEvent
from sitter_wire.records import Happening

NEWEST = 5_000
"""Snapshots that are kept: the agent takes up to some a second, they are gone with its process, and those of weeks would be most of the
history. And as many of each kind that is not known here: there may be one a step."""
MOST_UNKNOWN = 50
"""Kinds that are not known and are kept."""
KNOWN = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyEvent))

_encode = msgspec.msgpack.Encoder().encode


class Happenings:
    """Of one writer, on its thread."""

    def __init__(self) -> None:
        self._numerous: Counter[str] = Counter()
        self._unknown: set[str] = set()

    def statements(self, session: str, known: KnownSession, record: Happening) -> list[Statement]:
        """For one new event of a session; none for what is only a hole, or damaged."""
        event = record.event
        if isinstance(event, Hole | DamagedRecord):
            return []
        if isinstance(event, UnknownEvent):
            kind, data = event.kind, event.payload
            if kind not in KNOWN and kind not in self._unknown:
                if len(self._unknown) >= MOST_UNKNOWN:
                    return []
                self._unknown.add(kind)
        else:
            kind, data = str(type(event).__struct_config__.tag), _encode(event)
        out: list[Statement] = [(sql.EVENT, (known.number, record.seq, record.step, record.branch, record.time, kind, data))]
        if isinstance(event, SessionStart):
            out.append((sql.STARTED, (event.pid, event.host, _encode(event), known.number)))
            parent = event.resumed or (None, None)
            out.append((sql.BRANCH_SEEN, (event.branch, session, *parent, known.wall(record.time))))
        elif isinstance(event, Restored):
            out.append((sql.BRANCH_SEEN, (event.branch, session, event.from_branch, event.step, known.wall(record.time))))
        elif isinstance(event, SnapshotTaken) or kind not in KNOWN:
            self._numerous[kind] += 1
            if self._numerous[kind] % NEWEST == 0:
                out.append((sql.FORGET_OLDEST, (kind, kind, NEWEST)))
        return out
