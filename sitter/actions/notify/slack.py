"""``kind = "slack"``: an incoming webhook of Slack (Mattermost and Rocket.Chat take the same)."""

from sitter.actions.notify.base import Notice, cut
from sitter.actions.notify.post import Target
from sitter.config import NotifierConfig

LIMIT = 3000
"""Slack cuts a message's text at 40,000 characters; one that long is not read."""


class Slack:
    """One line of text; ``&``, ``<`` and ``>`` are escaped, so that nothing in it becomes a link or a mention."""

    def __init__(self, config: NotifierConfig) -> None:
        self._target = Target(config.name, config.url)

    def send(self, notice: Notice) -> str:
        """Raises NotifyError."""
        text = cut(notice.line, LIMIT).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return self._target.post({"text": text})
