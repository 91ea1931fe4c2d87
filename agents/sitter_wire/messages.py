"""Messages between agent and daemon. Two frames each: protocol version (one byte, ASCII digits) and msgpack payload.

Frozen for all protocol versions: Ping, Pong, Shipment header, Ack, and the actions in ``commands.FROZEN_ACTIONS``.
"""

import msgspec

from sitter_wire.bounds import Count, Finite, Name, Small, Whole
from sitter_wire.commands import Command, Outcome

PROTOCOL = 1
"""Raised when anything that is not frozen changes its meaning."""

MAX_FRAME = 8 * 1024 * 1024
"""Bytes; set as ZMQ_MAXMSGSIZE on every receiving socket."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="m"):
    """One message on the DEALER/ROUTER pair."""


class Hello(Message, frozen=True, tag="hello"):
    """Agent → daemon: this session lives. Sent at start and whenever a new incarnation of the daemon speaks."""

    session: Name
    pid: Small
    version: Name
    branch: Whole
    step: Whole


class Ping(Message, frozen=True, tag="ping"):
    """Daemon → agent, once a second. ``incarnation`` is random for each start of the daemon."""

    incarnation: Name
    n: Count


class Pong(Message, frozen=True, tag="pong"):
    """Agent → daemon, from the control thread. ``safe_point_at``: monotonic seconds of the last safe point, or None.

    ``written`` is the last sequence number in the recorder, ``dropped`` the records that could not be kept. ``phase``: see
    ``sitter_wire.phases`` (empty: an older agent). ``stacks_signal``, sent to the thread ``control_tid`` alone, writes the stacks of
    all threads into ``reports/stacks-SESSION.txt``, also while the interpreter's lock is held; 0: it does not.
    """

    session: Name
    n: Count
    pid: Small
    step: Whole
    micro: Whole
    branch: Whole
    safe_point_at: Finite | None
    written: Count
    dropped: Count
    paused: bool = False
    version: Name = ""
    phase: Name = ""
    stacks_signal: Small = 0
    control_tid: Small = 0


class Ack(Message, frozen=True, tag="ack"):
    """Daemon → agent, at most 5 times a second.

    ``wanted``: the next sequence number it will take. ``hole``: it got something later and took nothing of it.
    ``committed``: last sequence number that is in the history for good. ``clear`` = (branch, step): snapshots up to
    there may be trusted; None = none yet.
    """

    incarnation: Name
    session: Name
    wanted: Count
    committed: Count
    hole: bool = False
    clear: tuple[Whole, Whole] | None = None


class Order(Message, frozen=True, tag="order"):
    """Daemon → agent: a command."""

    command: Command


class Answer(Message, frozen=True, tag="answer"):
    """Agent → daemon: an outcome, the fast copy. The lasting one goes through the recorder."""

    outcome: Outcome


class Stacks(Message, frozen=True, tag="stacks"):
    """Agent → daemon: the stacks of all threads as text."""

    id: Name
    text: str


AnyMessage = Hello | Ping | Pong | Ack | Order | Answer | Stacks


class ShipmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First of a shipment's frames after the version: what the raw frame holds. Records are contiguous from ``first``.

    ``schemas`` repeats every schema that the records use, so that a shipment can be read alone. ``clock`` = (wall, monotonic)
    nanoseconds read together. ``lost_from``: the records from there up to ``first`` − 1 are gone for good (dropped at the cap), so
    the daemon may pass over them.
    """

    session: Name
    first: Count
    count: Count
    schemas: dict[int, list[str]] = {}
    clock: tuple[Count, Count] = (0, 0)
    lost_from: Count | None = None
