"""``sitter snooze``."""

from sitter.cli.common import demand_command

command = demand_command(
    "snooze",
    "Silence a rule for a while, such as 30m, 2h or 1d.",
    "Its findings are still written down; nothing is proposed or done. `sitter rules list` shows the rules.",
)
