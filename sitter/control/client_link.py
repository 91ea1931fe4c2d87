"""The daemon's end of the clients' socket: decodes requests, hands them on, sends replies. Knows who has been here lately."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from sitter.clock import Clock
from sitter.control.agent_link import bind, rebind, waiting
from sitter.control.mishaps import note
from sitter_wire import codec
from sitter_wire.messages import MAX_FRAME
from sitter_wire.places import Endpoints
from sitter_wire.queries import AnyQuery, Reply

log = logging.getLogger(__name__)

GONE_AFTER_S = 10.0
"""A client that has not asked for so long has left (a TUI asks every second)."""

OWED_S = 600.0
"""A question that was not answered for so long keeps the daemon no more: none takes that long."""

UNREAD = 64
"""Answers kept for one client that does not read them; beyond that they are dropped."""

Answer = Callable[[Any], None]


class Refused(msgspec.Struct, frozen=True):
    """An answer that is an error: one sentence; ``usage`` where the asker erred."""

    text: str
    usage: bool = False


class ClientLink:
    """Requests in, replies out. ``on_query`` gets the query and the function that answers it, now or later."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        places: Endpoints,
        clock: Clock,
        on_query: Callable[[AnyQuery, Answer], None],
    ) -> None:
        self._places, self._clock, self._on_query = places, clock, on_query
        self.garbage: Counter[str] = Counter()
        self._seen: dict[bytes, float] = {}
        self._owed: dict[tuple[bytes, int], float] = {}  # who waits for the answer to which question, and since when
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
        self.socket.setsockopt(zmq.SNDHWM, UNREAD)
        self._bound = {places.client: bind(self.socket, places.client)}

    def rebind_lost(self) -> bool:
        """See ``AgentLink.rebind_lost``."""
        return rebind(self.socket, self._places.client, self._bound)

    def present(self) -> int:
        """How many have asked or been answered something in the last ``GONE_AFTER_S``, or wait for an answer: a stop may take longer."""
        self._forget()
        return len(self._seen.keys() | {who for who, _ in self._owed})

    def take(self) -> None:
        """What waits, as much as is taken at once."""
        for parts in waiting(self.socket):
            try:
                if len(parts) != 2:
                    raise codec.GarbageError("malformed", f"{len(parts)} frames, expected 2")
                request = codec.request(parts[1])
            except codec.GarbageError as e:
                self.garbage[e.kind] += 1
                if self.garbage[e.kind] == 1:
                    log.warning("dropped a client's request: %s (further ones of this kind are only counted)", e)
                self._refuse(parts, e)
                continue
            self._is_here(parts[0])
            self._forget()
            self._serve(parts[0], request.id, request.query)

    def _refuse(self, parts: list[bytes], error: codec.GarbageError) -> None:
        """A client of another version shall not wait in vain: answered wherever it can be told to which question."""
        if len(parts) == 2 and (number := codec.request_id(parts[1])) is not None:
            reply = Reply(id=number, error=f"the daemon does not understand this question ({error})"[:500], usage=True)
            self._send(parts[0], reply)

    def _is_here(self, who: bytes) -> None:
        """The one that was here last stands last."""
        self._seen.pop(who, None)
        self._seen[who] = self._clock.monotonic()

    def _forget(self) -> None:
        """Those that have left."""
        now = self._clock.monotonic()
        while self._seen and self._seen[first := next(iter(self._seen))] <= now - GONE_AFTER_S:
            del self._seen[first]
        while self._owed and self._owed[oldest := next(iter(self._owed))] <= now - OWED_S:
            del self._owed[oldest]

    def _serve(self, who: bytes, number: int, query: AnyQuery) -> None:
        self._owed[who, number] = self._clock.monotonic()

        def answer(data: Any) -> None:
            if self._owed.pop((who, number), None) is not None:
                self._is_here(who)  # so that nobody leaves together with the answer
            refused = data if isinstance(data, Refused) else None
            reply = Reply(id=number, error=refused.text, usage=refused.usage) if refused else Reply(id=number, data=data)
            self._send(who, reply)

        try:
            self._on_query(query, answer)
        except Exception as e:  # noqa: BLE001 — a bug of ours must not end the daemon
            note(e)
            answer(
                Refused(
                    f"the daemon failed on this question ({type(query).__name__}); see daemon.log in the run directory"
                )
            )

    def _send(self, who: bytes, reply: Reply) -> None:
        try:
            self.socket.send_multipart([who, codec.encode(reply)], zmq.DONTWAIT)
        except zmq.ZMQError:
            self._seen.pop(who, None)  # it left before its answer came

    def close(self) -> None:
        """Lingers 200 ms for what is being sent."""
        self.socket.close()
