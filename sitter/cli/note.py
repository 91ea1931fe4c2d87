"""``sitter note``."""

from sitter.cli.common import demand_command

command = demand_command("note", "Write a line into the logbook.")
