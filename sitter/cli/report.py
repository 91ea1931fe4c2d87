"""``sitter report``: what a run was, as Markdown and as one page of HTML."""

from pathlib import Path

import click

from sitter.cli.common import asking, run_option, settle
from sitter.errors import SitterError
from sitter.model import Status
from sitter.paths import find
from sitter.report.facts import gather
from sitter.report.markdown import markdown
from sitter.report.page import page
from sitter.report.pictures import Axis, pictures
from sitter.store.reader import Reader
from sitter_wire.queries import GetStatus


@click.command("report", short_help="Write what the run was: Markdown and one page of HTML.")
@run_option
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Where to; else `reports/` in the run directory.")
@click.option("--axis", type=click.Choice(["step", "hours", "tokens"]), default="step", show_default=True, help="What the pictures go by.")
@click.option("--tokens-per-step", type=click.FloatRange(min=0, min_open=True), help="For --axis tokens, where no `tokens` were logged.")
def command(run: str | None, output: Path | None, axis: Axis, tokens_per_step: float | None) -> int:
    """Write report.md and report.html: curves with what was left behind in grey, every intervention with who, why, from what to what,
    the sums, and a methods sentence to paste."""
    found = find(run, acts=False)
    with asking(found) as asked:
        settle(asked)
        status: Status = asked.ask(GetStatus())
    reader = Reader(found.run.history)
    try:
        facts = gather(reader, found.info, status.state)
        drawn = pictures(reader, facts, axis, tokens_per_step)
    finally:
        reader.close()
    place = output or found.run.reports
    try:
        place.mkdir(parents=True, exist_ok=True)
        for picture in drawn:
            (place / f"{picture.name}.svg").write_text(picture.svg + "\n", encoding="utf-8")
        (place / "report.md").write_text(markdown(facts, drawn), encoding="utf-8")
        (place / "report.html").write_text(page(facts, drawn), encoding="utf-8")
    except OSError as e:
        raise SitterError(f"cannot write the report ({e.strerror}: {e.filename or place}): choose another place with -o") from e
    click.echo(f"wrote {place / 'report.md'} and {place / 'report.html'}")
    return 0
