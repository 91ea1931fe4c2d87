"""``sitter stop``."""

from sitter.cli.common import demand_command

command = demand_command("stop", "Checkpoint and end the training; --now ends it without waiting for a safe point.")
