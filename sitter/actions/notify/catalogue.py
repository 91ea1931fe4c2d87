"""Every way to tell somebody. A new one is a file and a line here."""

from collections.abc import Callable

from sitter.actions.notify.base import Notifier
from sitter.actions.notify.command import Command
from sitter.actions.notify.discord import Discord
from sitter.actions.notify.ntfy import Ntfy
from sitter.actions.notify.slack import Slack
from sitter.actions.notify.webhook import Webhook
from sitter.config import NotifierConfig, unknown

KINDS: dict[str, Callable[[NotifierConfig], Notifier]] = {
    "webhook": Webhook,
    "ntfy": Ntfy,
    "slack": Slack,
    "discord": Discord,
    "command": Command,
}


def make(config: NotifierConfig) -> Notifier:
    """The notifier that a ``[notify.NAME]`` describes. Raises ConfigError."""
    if config.kind not in KINDS:
        raise unknown(config.kind, tuple(KINDS), f"[notify.{config.name}]", "kind")
    return KINDS[config.kind](config)
