"""``sitter pause``."""

from sitter.cli.common import demand_command

command = demand_command(
    "pause",
    "Hold the training at the next safe point.",
    "It goes on by itself when no daemon is heard for a minute; with --hold it waits on.",
)
