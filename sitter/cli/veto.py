"""``sitter veto``."""

from sitter.cli.common import demand_command

command = demand_command(
    "veto",
    "Drop a proposal; nothing is done.",
    "`sitter status` shows what is proposed, with its ID.",
)
