"""``sitter approve``."""

from sitter.cli.common import demand_command

command = demand_command(
    "approve",
    "Do what a proposal proposes.",
    "`sitter status` shows what is proposed, with its ID.",
)
