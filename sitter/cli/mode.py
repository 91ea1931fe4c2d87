"""``sitter mode``."""

from sitter.cli.common import demand_command

command = demand_command(
    "mode", "What may be done unasked: watch (nothing), guard (the guard; the rest asks), act (every rule)."
)
