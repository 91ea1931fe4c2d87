"""``sitter pause``."""

from sitter.cli.common import demand_command

command = demand_command(
    "pause", "Hold the training at the next safe point; --hold waits even when no daemon is heard."
)
