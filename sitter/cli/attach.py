"""``sitter attach``: the TUI, at any time, from anywhere."""

import click

from sitter.cli.common import run_option
from sitter.cli.screen import show, why_no_screen
from sitter.errors import UsageError
from sitter.paths import find
from sitter.supervise.daemon_process import start_daemon


@click.command("attach")
@run_option
@click.option(
    "--ref", "ref", metavar="RUN|FILE", help="Another run, or a file as `sitter replay` reads it, drawn dashed beside this one."
)
@click.option("--ascii", "plain", is_flag=True, help="Only ASCII characters.")
def command(run: str | None, ref: str | None, plain: bool) -> int:
    """Open the screen on a run. Leaving it (q) leaves the run alone."""
    found = find(run, acts=False)
    if found.daemon_pid is None:
        start_daemon(found.run)  # first: what is wrong with the run is said before what is wrong with the terminal
    why = why_no_screen()
    if why:
        raise UsageError(f"{why}, so there is no screen; `sitter status` and `sitter logbook` say it in words")
    show(found.run, ref=ref, plain=plain)
    return 0
