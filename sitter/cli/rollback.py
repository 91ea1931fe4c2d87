"""``sitter rollback``."""

from sitter.cli.common import demand_command

command = demand_command(
    "rollback",
    "Go back to the newest good state, or to one step.",
    "The data go on; with --replay they are rewound too, and the outcome says whether that was exact.",
)
