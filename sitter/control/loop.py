"""The daemon's one loop: waits for agent, clients, other threads and the clock, and hands each its turn."""

import logging
import time
from collections.abc import Callable

import zmq

from sitter.clock import Clock
from sitter.control.agent_link import AgentLink
from sitter.control.client_link import ClientLink
from sitter.control.heart import Heart
from sitter.control.inbox import Inbox
from sitter.control.mishaps import guarded, note
from sitter.control.timers import Timer, Timers
from sitter_wire.messages import ShipmentHeader

log = logging.getLogger(__name__)

BEHIND_RECORDS_S = 0.15
"""The second's work is done so long after records came, where they come slowly. The training thread ships once in 50 ms, so that of a step
part is left behind, maybe the loss; the ping that comes with the beat makes the agent's control thread ship it, which it does only after
100 ms of silence."""
FAILED_S, FAILED_MOST_S = 0.01, 0.5
"""Rested after a turn in which something failed, longer each time."""
SLOWLY_S = 0.5
"""Records that come after such a silence. Quicker ones take with them what was left behind before."""


class Loop:
    """Turned by the daemon until it stops. ``beat``, where it is set, is the timer that rather runs soon after records."""

    def __init__(self, clock: Clock, inbox: Inbox, timers: Timers) -> None:
        self._clock, self._inbox, self._timers = clock, inbox, timers
        self.beat: Timer | None = None
        self._reads: Callable[[], int | None] = lambda: None
        self._read_in: int | None = None
        self._came = 0.0
        self._failures = 0

    def begin(self, link: AgentLink, clients: ClientLink, heart: Heart, reads: Callable[[], int | None] = lambda: None) -> None:
        """These are its sockets; before the first turn. ``reads`` takes in a slice of what lies in files, in every turn: it says in how
        many milliseconds it wants the next, None for whenever there is one."""
        self._link, self._clients, self._heart, self._reads, self._read_in = link, clients, heart, reads, 0
        self._poller = zmq.Poller()
        for readable in (link.data, link.agent, clients.socket, self._inbox.fileno()):
            self._poller.register(readable, zmq.POLLIN)

    def turn(self) -> bool:
        """Sleep until something is to do, and do it. Whether a client has asked something. Never raises: one part that fails takes its turn
        from none of the others, and one that fails at every turn does not make the daemon spin."""
        failed, ready = self._ready()
        asked = self._clients.socket in ready
        failed |= self._inbox.fileno() in ready and not guarded(self._inbox.clear)
        failed |= self._inbox.waiting() and not guarded(self._inbox.run)
        failed |= self._link.agent in ready and not guarded(self._link.take_messages)
        failed |= self._link.data in ready and not guarded(self._link.take_shipments)
        failed |= asked and not guarded(self._clients.take)
        failed |= not guarded(self._timers.run)
        failed |= not guarded(self._read)
        failed |= not guarded(self._heart.ack_if_due)
        self._failures = self._failures + 1 if failed else 0
        if failed:
            time.sleep(min(FAILED_S * self._failures, FAILED_MOST_S))
        return asked

    def _ready(self) -> tuple[bool, dict[object, int]]:
        """Whether the wait itself failed, and what is readable."""
        try:
            wait = self._heart.wait_ms(self._timers.wait_ms())
            return False, dict(self._poller.poll(wait if self._read_in is None else min(wait, self._read_in)))
        except Exception as e:  # noqa: BLE001 — a bug of ours must not end the daemon
            note(e)
            return True, {}

    def _read(self) -> None:
        self._read_in = None  # where it fails it has the next turn that there is
        self._read_in = self._reads()

    def shipment(self, header: ShipmentHeader, raw: bytes) -> None:
        """The heart's; and the beat may follow it. Raises GarbageError where it does not fit."""
        self._heart.shipment(header, raw)
        before, self._came = self._came, self._clock.monotonic()
        if self.beat is not None and self._came - before >= SLOWLY_S:
            self.beat.rather(self._came + BEHIND_RECORDS_S)

    def rebind(self) -> None:
        """Bind again whatever a cleaner of temporary files has removed."""
        lost = self._link.rebind_lost()
        if self._clients.rebind_lost():
            lost.append("client")
        if lost:
            log.warning("socket files were gone and are bound again: %s", ", ".join(lost))
