"""``sitter mode``."""

from sitter.cli.common import demand_command

command = demand_command(
    "mode",
    "Say what may be done unasked: watch, guard or act.",
    "watch: nothing is done. guard: the guard acts, the rest asks. act: every rule acts, within its budget.",
)
