"""``kind = "webhook"``: JSON to an address of one's own: ``{"run", "event", "text", "time", "host"}``."""

import platform

from sitter.actions.notify.base import Notice
from sitter.actions.notify.post import Target
from sitter.clock import iso
from sitter.config import NotifierConfig


class Webhook:
    """Everything there is to know, for a program to read."""

    def __init__(self, config: NotifierConfig) -> None:
        self._target = Target(config.name, config.url)

    def send(self, notice: Notice) -> str:
        """Raises NotifyError."""
        told = {"run": notice.run, "event": notice.event, "text": notice.text}
        return self._target.post({**told, "time": iso(notice.time), "host": platform.node()})
