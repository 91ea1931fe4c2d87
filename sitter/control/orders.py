"""Commands on their way: sent until answered, never twice with effect, and never reported as done unless the agent said so."""

import secrets
from collections.abc import Callable

import msgspec

from sitter.clock import Clock
from sitter_wire.commands import AnyAction, Command, Outcome

RESEND_S = 2.0
"""An order may die with a socket; the agent answers a repeat with the recorded outcome, so sending again is safe."""
GRACE_S = 5.0
"""After its deadline an order can no longer start; so long an answer that was already on its way is waited for."""
REMEMBERED = 2000


class Standing(msgspec.Struct, kw_only=True):
    """One order that has no outcome yet."""

    command: Command
    sent: float
    given: float
    there: bool = False
    """Whether a socket took it; nothing is known of its arrival."""
    done: list[Callable[[Outcome | None], None]]


class Orders:
    """Orders by id. All methods on the loop's thread; times are monotonic seconds."""

    def __init__(self, clock: Clock, send: Callable[[Command], bool]) -> None:
        """``send`` hands a command to the agent's socket; False where nobody is there (it is tried again)."""
        self._clock, self._send = clock, send
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
        done: Callable[[Outcome | None], None] | None = None,
    ) -> Command:
        """Send an action; ``done`` is called once with its outcome, or with None when it was not answered ``GRACE_S`` after its deadline.

        ``wait`` seconds until its deadline.
        """
        now = self._clock.monotonic()
        command = Command(
            id=secrets.token_hex(6), session=session, action=action, deadline=now + wait, branch=branch, by=by
        )
        standing = Standing(command=command, sent=now, given=now, done=[done] if done else [])
        self._standing[command.id] = standing
        standing.there = self._send(command)
        return command

    def agent_is_there(self) -> None:
        """The agent has spoken: what could not be sent before goes now. Its two sockets connect one after the other, and a short run
        would be over before ``RESEND_S`` is."""
        for standing in self._standing.values():
            if not standing.there and self._clock.monotonic() < standing.command.deadline:
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
                for done in standing.done:
                    done(None)
            elif now - standing.sent >= RESEND_S and now < standing.command.deadline:
                standing.sent = now
                standing.there = self._send(standing.command)

    def session_over(self, session: str, step: int, branch: int) -> list[tuple[Command, Outcome]]:
        """The process is dead and its recorder read to the end: what it has not answered has expired."""
        over = []
        for standing in [s for s in self._standing.values() if s.command.session == session]:
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
