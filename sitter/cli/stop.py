"""``sitter stop``."""

from sitter.cli.common import demand_command

command = demand_command(
    "stop",
    "Write a checkpoint and end the training.",
    "At the next safe point. --now: without waiting for one and without a checkpoint; SIGTERM, and SIGKILL after 30 s.",
)
