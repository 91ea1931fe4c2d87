"""``sitter notify --test``."""

import click

from sitter.cli.common import asking, run_option, say
from sitter.paths import find
from sitter_wire.queries import TestNotify


@click.command("notify")
@run_option
@click.option(
    "--test",
    "test",
    is_flag=True,
    required=True,
    help="Send a test through every notifier of the run and wait for each.",
)
def command(run: str | None, test: bool) -> int:
    """Try the notifiers that sitter.toml sets up."""
    with asking(find(run, acts=True), acts=True) as asked:
        answer = asked.ask(TestNotify(), 30.0)
    say("notify", answer)
    return 0 if answer.status == "applied" else 1
