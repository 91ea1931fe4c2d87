"""Commands on their way: sent until answered, never twice with effect, and never reported as done unless the agent said so."""

import logging
import secrets
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from sitter.clock import Clock
from sitter.model import Finding
from sitter_wire.commands import AnyAction, Command, DumpStacks, Outcome

log = logging.getLogger(__name__)

ORDERS = "orders"
"""What ``Orders`` keeps for the next daemon: what stands, and what was answered last (its record may come only then)."""

RESEND_S = 2.0
"""An order may die with a socket; the agent answers a repeat with the recorded outcome, so sending again is safe."""
GRACE_S = 5.0
"""After its deadline an order can no longer start; so long an answer that was already on its way is waited for."""
UNTIL_ITS_STEP_S = 86_400.0
"""What waits for a step of its own may be sent long before it, in a slow run or one that validates in between."""
REMEMBERED = 2000
"""Ids whose outcome is known: a repeat of one is no news."""
KEPT_ANSWERED = 64
"""Answers come by two ways; the slower one is behind by seconds, a daemon's restart included."""

Done = Callable[[Outcome | None], None]
"""Called once: with the outcome, or with None where the order was not answered and can no longer start."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """An order as it is kept for the next daemon. ``given``: monotonic seconds; ``finding``: for whose sake."""

    command: Command
    given: float
    finding: Finding | None = None


class Standing(msgspec.Struct, kw_only=True):
    """One order that has no outcome yet."""

    order: Given
    sent: float
    held: bool = False
    """Not sent yet: it is to be known to the next daemon first."""
    there: bool = False
    """Whether a socket took it; nothing is known of its arrival."""
    done: list[Done]

    @property
    def command(self) -> Command:
        """What was sent."""
        return self.order.command


class Orders:
    """Orders by id. All methods on the loop's thread; times are monotonic seconds."""

    def __init__(
        self, clock: Clock, send: Callable[[Command], bool], keep: Callable[[str, object], None] = lambda key, value: None
    ) -> None:
        """``send`` hands a command to the agent's socket; False where nobody is there (it is tried again). ``keep`` remembers beyond this
        process."""
        self._clock, self._send, self._keep = clock, send, keep
        self._standing: dict[str, Standing] = {}
        self._answered: dict[str, None] = {}

    def give(
        self,
        action: AnyAction,
        *,
        session: str,
        by: str,
        branch: int | None = None,
        wait: float = 60.0,
        done: Done | None = None,
        finding: Finding | None = None,
        when_safe: Callable[[Callable[[], None]], None] = lambda send: send(),
    ) -> Command:
        """Send an action; ``done`` is called once with its outcome, or with None when it was not answered ``GRACE_S`` after its deadline.

        ``wait`` seconds until its deadline. ``finding``: for whose sake; whoever takes the order up after this process is told.
        ``when_safe`` calls what it is given once all that is kept is on disk: for an order that the next daemon must know of, should this
        one die at this moment; the one for whom the guard waits goes at once.
        """
        now = self._clock.monotonic()
        at = finding.at if finding is not None else None
        deadline = now + (wait if at is None else max(wait, UNTIL_ITS_STEP_S))
        command = Command(
            id=secrets.token_hex(6), session=session, action=action, deadline=deadline, branch=branch, by=by, at=at
        )
        order = Given(command=command, given=now, finding=finding)
        standing = Standing(order=order, sent=now, held=True, done=[done] if done else [])
        self._standing[command.id] = standing
        self._save()
        when_safe(lambda: self._send_now(standing))
        return command

    def _send_now(self, standing: Standing) -> None:
        if standing.command.id in self._standing:
            standing.held, standing.sent = False, self._clock.monotonic()
            standing.there = self._send(standing.command)

    def restore(self, kept: dict[str, Any] | None, done: Callable[[Given], Done]) -> list[Given]:
        """What an earlier daemon gave and nobody has answered stands again, and is sent again while its deadline has not passed: the agent
        knows its id. ``done`` says for each what is called with its outcome."""
        self._answered.update(dict.fromkeys((kept or {}).get("answered", ())))
        taken = []
        for raw in (kept or {}).get("standing", ()):
            try:
                order = msgspec.convert(raw, Given)
            except msgspec.ValidationError as e:  # of another version
                log.warning("an order that an earlier daemon gave is not understood: %s", e)
                continue
            self._standing[order.command.id] = Standing(order=order, sent=order.given, done=[done(order)])
            taken.append(order)
        return taken

    def agent_is_there(self) -> None:
        """The agent has spoken: what could not be sent before goes now. Its two sockets connect one after the other, and a short run
        would be over before ``RESEND_S`` is."""
        for standing in self._standing.values():
            if not (standing.there or standing.held) and self._clock.monotonic() < standing.command.deadline:
                standing.sent = self._clock.monotonic()
                standing.there = self._send(standing.command)

    def standing(self, kind: type[object] | None = None) -> list[Standing]:
        """Orders without an outcome, oldest first, of one kind of action or of all."""
        return [s for s in self._standing.values() if kind is None or isinstance(s.command.action, kind)]

    def outcome(self, outcome: Outcome) -> Command | None:
        """An outcome by either way. The command where this is the first news of it and it is ours; None for a repeat."""
        if outcome.id in self._answered:
            return None
        self._answered[outcome.id] = None
        if len(self._answered) > REMEMBERED:
            self._answered.pop(next(iter(self._answered)))
        standing = self._standing.pop(outcome.id, None)
        if standing is None:
            return None
        self._save()
        for done in standing.done:
            done(outcome)
        return standing.command

    def waits_for(self, command_id: str) -> bool:
        """Whether this daemon gave such an order and has no outcome of it yet."""
        return command_id in self._standing

    def known(self, command_id: str) -> bool:
        """Whether an outcome for this id has been seen."""
        return command_id in self._answered

    def tick(self) -> None:
        """Send again what is due, and give up on what can no longer start."""
        now = self._clock.monotonic()
        for id_, standing in list(self._standing.items()):
            if now > standing.command.deadline + GRACE_S:
                del self._standing[id_]
                self._save()
                for done in standing.done:
                    done(None)
            elif not standing.held and now - standing.sent >= RESEND_S and now < standing.command.deadline:
                standing.sent = now
                standing.there = self._send(standing.command)

    def over(self, living: Collection[str | None], step: int, branch: int) -> list[tuple[Command, Outcome]]:
        """The processes of all sessions but ``living`` are dead and their recorders read to the end: what they have not answered has
        expired."""
        over = []
        for standing in [s for s in self._standing.values() if s.command.session not in living]:
            outcome = Outcome(
                id=standing.command.id,
                status="expired",
                step=step,
                branch=branch,
                text="the training process ended before it could be applied",
            )
            over.append((standing.command, outcome))
            self.outcome(outcome)
        return over

    def _save(self) -> None:
        """Stacks are left out: their answer is no record, and nobody waits for it after a restart."""
        standing = [s.order for s in self._standing.values() if not isinstance(s.command.action, DumpStacks)]
        self._keep(ORDERS, {"standing": standing, "answered": list(self._answered)[-KEPT_ANSWERED:]})
