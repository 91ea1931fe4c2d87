"""``sitter days``: a row a day, for the daily look."""

import datetime

import click

from sitter.cli.common import asking, json_option, print_json_line, run_option, settle
from sitter.cli.status import number
from sitter.model import DayRow
from sitter.paths import find
from sitter_wire.queries import GetDays

HEAD = f"{'day':<12}{'steps':>10}{'loss':>9}{'goal':>9}{'per 1k':>10}{'lr':>10}{'steps/s':>9}{'actions':>9}{'GPU idle':>10}"


@click.command("days", short_help="Show a row a day: steps, loss, goal, slope, rate, actions.")
@run_option
@json_option
def command(run: str | None, as_json: bool) -> int:
    """Show a row a day: steps, loss, goal, slope per 1,000 steps, rate, actions, share of the time the GPU was idle."""
    offset = datetime.datetime.now().astimezone().utcoffset() or datetime.timedelta()
    with asking(find(run, acts=False)) as asked:
        settle(asked)
        rows: list[DayRow] = asked.ask(GetDays(utc_offset=int(offset.total_seconds())))
    if as_json:
        for row in rows:
            print_json_line(row)
        return 0
    click.echo(HEAD)
    for r in rows:
        idle = "–" if r.gpu_idle is None else f"{100 * r.gpu_idle:.1f} %"
        click.echo(
            f"{r.day:<12}{r.steps:>10,}{number(r.loss):>9}{number(r.goal):>9}{number(r.slope_per_k):>10}{number(r.lr):>10}"
            f"{number(r.rate):>9}{r.actions:>9}{idle:>10}"
        )
    return 0
