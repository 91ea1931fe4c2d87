"""``kind = "discord"``: a webhook of a Discord channel."""

from sitter.actions.notify.base import Notice, cut
from sitter.actions.notify.post import Target
from sitter.config import NotifierConfig

LIMIT = 2000
"""Longer content is refused by Discord (HTTP 400)."""


class Discord:
    """One line of text, in which ``@everyone`` rings nobody."""

    def __init__(self, config: NotifierConfig) -> None:
        self._target = Target(config.name, config.url)

    def send(self, notice: Notice) -> str:
        """Raises NotifyError."""
        return self._target.post({"content": cut(notice.line, LIMIT), "allowed_mentions": {"parse": []}})
