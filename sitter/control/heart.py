"""The beat between daemon and agent: pings, acknowledgements, and what the agent's control thread says."""

import logging

from sitter.clock import Clock
from sitter.control.agent_link import AgentLink
from sitter.control.core import Core
from sitter.vitals import Stood
from sitter_wire.commands import Command, Outcome, Rollback
from sitter_wire.messages import Ack, Answer, AnyMessage, Hello, Order, Ping, Pong, ShipmentHeader, Stacks

log = logging.getLogger(__name__)

ACK_EVERY_S = 0.2
"""At most 5 acknowledgements a second: each wakes a thread in the training process."""
FUTURE_S = 1.0
"""A safe point that lies further in the future is none: both sides read the same clock."""


class Heart:
    """Speaks for the core on the agent's link. ``incarnation`` is random for each start of the daemon."""

    def __init__(self, incarnation: str, core: Core, link: AgentLink, clock: Clock) -> None:
        self._incarnation, self._core, self._link, self._clock = incarnation, core, link, clock
        self._n = 0
        """Of the last ping."""
        self._committed: dict[str, int] = {}
        """Of each session: the last sequence number that the history has for good."""
        self._acked: Ack | None = None
        """What the agent was told last; None: nothing yet, or what it may not have heard."""
        self._acked_at = 0.0
        """Monotonic seconds of that."""
        self._ack_due = False

    # -- to the agent ------------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Once a second, also into the void: an agent that comes later is met by the next one."""
        if self._core.life.alive:
            self._n += 1
            self._link.send(Ping(incarnation=self._incarnation, n=self._n))
            self._ack_due = True  # only sent where it says something new

    def committed(self, done: dict[str, int], *, at_leisure: bool = False) -> None:
        """The history has these sequences for good. ``at_leisure``: it is soon enough to say so with the next ping."""
        self._committed.update(done)
        self._ack_due = self._ack_due or not at_leisure

    def wait_ms(self, at_most: int) -> int:
        """How long the loop may sleep, given that an acknowledgement may be due."""
        if not self._ack_due:
            return at_most
        left = ACK_EVERY_S - (self._clock.monotonic() - self._acked_at)
        return max(0, min(at_most, int(left * 1000) + 1))

    def ack_if_due(self) -> None:
        """If one is due, and the last is long enough ago."""
        if self._ack_due and self._clock.monotonic() - self._acked_at >= ACK_EVERY_S:
            self.ack()

    def ack(self, *, force: bool = False) -> None:
        """Say what is wanted, committed, and clear."""
        self._ack_due = False
        self._acked_at = self._clock.monotonic()
        ack = self._ack()
        if ack is not None and (force or ack != self._acked) and self._link.send(ack):
            self._acked = ack

    def _ack(self) -> Ack | None:
        session = self._core.present.session
        if session is None or not self._core.life.alive:
            return None
        return Ack(
            incarnation=self._incarnation,
            session=session.id,
            wanted=self._core.intake.wanted(session.id),
            committed=self._committed.get(session.id, 0),
            hole=session.id in self._core.intake.holes,
            clear=self._core.engine.clear(),
        )

    def order(self, command: Command) -> bool:
        """Hand a command to the agent; False where nobody is there. Before a rollback it is told what is clear by now: with what it
        was last told, up to ``ACK_EVERY_S`` ago, it would go back further than it must."""
        if isinstance(command.action, Rollback):
            self.ack()
        return self._link.send(Order(command=command))

    # -- from the agent ----------------------------------------------------------------------------------------------------

    def shipment(self, header: ShipmentHeader, raw: bytes) -> None:
        """Raises GarbageError where it does not fit."""
        self._core.shipment(header, raw)
        # Without a hole the commit that follows within 250 ms is soon enough, and one wake of the agent's thread serves for both.
        self._ack_due = self._ack_due or header.session in self._core.intake.holes

    def message(self, message: AnyMessage) -> None:
        """One message of the agent's control thread."""
        if isinstance(message, Pong):
            self._pong(message)
        elif isinstance(message, Hello):
            self._hello(message)
        elif isinstance(message, Answer):
            # That of an order which another daemon gave comes by the recorder. One that nobody gave would fill the logbook.
            if self._core.orders.waits_for(message.outcome.id):
                self._core.flow.outcome(message.outcome)
        elif isinstance(message, Stacks):
            self._stacks(message)
        self._core.orders.agent_is_there()

    def _stacks(self, stacks: Stacks) -> None:
        """Answered by the control thread at once: no safe point is needed, and where none comes this is how one learns why."""
        core, present = self._core, self._core.present

        def told(stood: Stood) -> None:
            text = f"the training stands at {stood.where or 'an unknown line'}; the stacks of {stood.threads} threads are in the logbook"
            text += f" and in {stood.path}" if stood.path else ""
            core.flow.outcome(Outcome(id=stacks.id, status="applied", step=present.step or 0, branch=present.branch or 0, text=text))

        if core.orders.waits_for(stacks.id):
            core.stillness.heard(stacks.text, told)

    def _hello(self, hello: Hello) -> None:
        """A session speaks for the first time to this daemon: what earlier ones left in files comes before its records."""
        core = self._core
        core.life.look()
        if not core.speaks(hello.session):
            return
        session = core.flow.session(hello.session, None, hello.pid)
        session.pid = session.pid or hello.pid
        self._acked = None
        self._ack_due = True
        log.info("session %s of process %d speaks, version %s", hello.session, hello.pid, hello.version)

    def _pong(self, pong: Pong) -> None:
        core = self._core
        if pong.safe_point_at is not None and pong.safe_point_at > self._clock.monotonic() + FUTURE_S:
            return  # believed, no stall would ever be seen
        session = core.present.session
        if session is None or session.id != pong.session or not session.pid:
            self._hello(_as_hello(pong))
        if not core.speaks(pong.session):
            return
        core.present.pinged(pong, self._clock.monotonic())
        if core.intake.wanted(pong.session) <= pong.written:
            # It may have shipped into a daemon that died: the next beat tells it what is wanted, though that be nothing new. Mostly the
            # rest comes right behind this pong, and to wake both sides for it once more would be in vain.
            self._acked = None


def _as_hello(pong: Pong) -> Hello:
    return Hello(session=pong.session, pid=pong.pid, version=pong.version, branch=pong.branch, step=pong.step)
