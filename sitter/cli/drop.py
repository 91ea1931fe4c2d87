"""``sitter drop``."""

from sitter.cli.common import demand_command

command = demand_command("drop", "Discard the next N batches.")
