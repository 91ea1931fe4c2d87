"""What a notifier is, and what it is given."""

from typing import Protocol

from sitter.model import Struct

DEFAULT_EVENTS = ("guard_acted", "crashed", "gave_up", "stalled", "finished", "daemon_gone")
"""Sent where a notifier's ``events`` says nothing. ``events = ["all"]`` sends every one, also those of rules."""

FINAL_EVENTS = ("crashed", "gave_up", "finished", "daemon_gone")
"""Said once or twice in a run and never to be lost behind chatter: they have a rate limit of their own."""

TIMEOUT_S = 10.0
"""How long one attempt may take."""


class Notice(Struct, frozen=True):
    """One thing to tell. ``time``: unix seconds. ``run`` is the run's name."""

    event: str
    text: str
    run: str
    time: float

    @property
    def line(self) -> str:
        """The text, beginning with the run's name."""
        return self.text if self.text.startswith(self.run) else f"{self.run}: {self.text}"


class NotifyError(Exception):
    """It was not delivered; the text says why and shows no secret. ``again``: a second attempt makes sense."""

    def __init__(self, text: str, *, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


class Notifier(Protocol):
    """One way to tell somebody. Called from a thread of its own; may block for about ``TIMEOUT_S``."""

    def send(self, notice: Notice) -> str:
        """Deliver it and return what the other side said. Raises NotifyError."""
        ...


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
