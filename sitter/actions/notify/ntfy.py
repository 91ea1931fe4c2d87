"""``kind = "ntfy"``: ntfy.sh or a server of one's own; the url ends with the topic: ``https://ntfy.sh/my-topic``."""

from sitter.actions.notify.base import Notice, cut
from sitter.actions.notify.post import Target
from sitter.config import NotifierConfig
from sitter.errors import ConfigError

LIMIT = 1000
"""ntfy turns a message of more than 4,096 bytes into a file; a character has at most four."""

_PRIORITY = {"crashed": 5, "gave_up": 5, "stalled": 4, "daemon_gone": 4}
_TAGS = {"crashed": "rotating_light", "gave_up": "rotating_light", "stalled": "warning", "finished": "tada"}


class Ntfy:
    """Posts JSON to the server's root, since headers could not carry ``×`` or ``→``."""

    def __init__(self, config: NotifierConfig) -> None:
        self._target = Target(config.name, config.url)
        root, _, self._topic = self._target.parts.path.rstrip("/").rpartition("/")
        self._root = root + "/"
        if not self._topic:
            raise ConfigError(f"[notify.{config.name}]: url has no topic; expected such as https://ntfy.sh/my-topic")

    def send(self, notice: Notice) -> str:
        """Raises NotifyError."""
        said = {"topic": self._topic, "title": notice.run, "message": cut(notice.text, LIMIT)}
        tags = [tag] if (tag := _TAGS.get(notice.event)) else []
        return self._target.post({**said, "priority": _PRIORITY.get(notice.event, 3), "tags": tags}, path=self._root)
