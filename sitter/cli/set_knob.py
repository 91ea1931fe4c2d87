"""``sitter set``."""

from sitter.cli.common import demand_command

command = demand_command(
    "set",
    "Change a knob: lr=0.5x halves the rate, lr=3e-4 replaces it.",
    "At the next safe point; what is out of bounds is rejected. `sitter status` shows the knobs.",
    "KNOB@GROUP=… means one parameter group. --hold pins the value against the schedule.",
)
