"""``sitter note``."""

from sitter.cli.common import demand_command

command = demand_command("note", "Write a line of your own into the logbook.")
