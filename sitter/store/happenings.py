"""What an event means to the tables: its own row, and what follows from it."""

import msgspec

import sitter.store.sql as sql
from sitter.store.growing import Statement
from sitter.store.known_session import KnownSession
from sitter_wire.events import Hole, Restored, SessionStart, SnapshotTaken
from sitter_wire.records import Happening

SNAPSHOTS = 5_000
"""Events of that kind that are kept: the agent takes up to some a second, they are gone with its process, and those of weeks would be most
of the history."""

_encode = msgspec.msgpack.Encoder().encode


class Happenings:
    """Of one writer, on its thread."""

    def __init__(self) -> None:
        self._snapshots = 0

    def statements(self, session: str, known: KnownSession, record: Happening) -> list[Statement]:
        """For one new event of a session; none for what is only a hole."""
        event = record.event
        if isinstance(event, Hole):
            return []
        kind = str(type(event).__struct_config__.tag)
        out: list[Statement] = [
            (sql.EVENT, (known.number, record.seq, record.step, record.branch, record.time, kind, _encode(event)))
        ]
        if isinstance(event, SessionStart):
            out.append((sql.STARTED, (event.pid, event.host, _encode(event), known.number)))
            parent = event.resumed or (None, None)
            out.append((sql.BRANCH_SEEN, (event.branch, session, *parent, known.wall(record.time))))
        elif isinstance(event, Restored):
            out.append((sql.BRANCH_SEEN, (event.branch, session, event.from_branch, event.step, known.wall(record.time))))
        elif isinstance(event, SnapshotTaken):
            self._snapshots += 1
            if self._snapshots % SNAPSHOTS == 0:
                out.append((sql.FORGET_SNAPSHOTS, (SNAPSHOTS,)))
        return out
