"""``sitter snooze``."""

from sitter.cli.common import demand_command

command = demand_command("snooze", "No proposals of a rule for some time; its findings are still written down.")
