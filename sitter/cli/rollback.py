"""``sitter rollback``."""

from sitter.cli.common import demand_command

command = demand_command("rollback", "Go back to the newest good state, or to one step; --replay rewinds the data too.")
