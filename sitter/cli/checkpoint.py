"""``sitter checkpoint``."""

from sitter.cli.common import demand_command

command = demand_command(
    "checkpoint",
    "Write a checkpoint of the present state.",
    "At the next safe point; it is read back before it counts.",
)
