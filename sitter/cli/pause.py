"""``sitter pause``."""

from sitter.cli.common import demand_command

command = demand_command(
    "pause",
    "Hold the training at the next safe point.",
    "It goes on by itself when no daemon is heard for a minute; with --hold it waits on.",
    "With --free a checkpoint is written first, and the GPU's memory given back; `sitter unpause` puts the state back, bit for bit.",
)
