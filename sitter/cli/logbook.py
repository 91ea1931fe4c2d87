"""``sitter logbook``: what happened, what was decided, what became of it."""

import click
import msgspec

from sitter.cli.common import asking, json_option, print_json_line, run_option, settle
from sitter.clock import iso
from sitter.model import LogEntry
from sitter.paths import find
from sitter_wire.queries import GetLogbook

KEYS = ("time", "step", "branch", "kind", "rule", "action", "status", "detail")
"""Of a line of ``logbook --json``, in this order (contract)."""


@click.command("logbook", short_help="Print what happened, what was decided, what came of it.")
@run_option
@json_option
@click.option(
    "-n",
    "--last",
    "last",
    default=10_000,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="At most so many lines, the newest.",
)
def command(run: str | None, as_json: bool, last: int) -> int:
    """Print the run's logbook, oldest first."""
    with asking(find(run, acts=False)) as asked:
        settle(asked)
        entries: list[LogEntry] = asked.ask(GetLogbook(limit=last), 30.0)
    for entry in entries:
        if as_json:
            row = msgspec.to_builtins(entry)
            print_json_line({key: row[key] for key in KEYS})
        else:
            click.echo(line(entry))
    return 0


def line(e: LogEntry) -> str:
    """One line for people, in which nothing stands twice."""
    where = f"step {e.step:,}" if e.step is not None else ""
    branch = f"/{e.branch}" if e.branch else ""
    who = f" {e.rule}" if e.rule else ""
    status = f" {e.status}" if e.status and e.status not in e.detail else ""
    what = f" [{e.action}]" if e.action and not e.detail.startswith(e.action) else ""
    return f"{iso(e.time)[:19].replace('T', ' ')}  {where + branch:>14}  {e.kind}{who}{status}{what}: {e.detail}"
