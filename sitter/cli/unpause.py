"""``sitter unpause``."""

from sitter.cli.common import demand_command

command = demand_command("unpause", "End a pause.")
