"""``sitter set``."""

from sitter.cli.common import demand_command

command = demand_command("set", "Change a knob: a factor (lr=0.5x) or a value (lr=3e-4), at the next safe point.")
