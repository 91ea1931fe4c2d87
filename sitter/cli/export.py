"""``sitter export``: the signals, for other programs."""

from pathlib import Path

import click

from sitter.cli.common import asking, run_option, settle
from sitter.paths import find
from sitter.store.export import FORMATS, export
from sitter.store.reader import Reader

TO_STDOUT = "csv"
"""What is written to stdout where no place is named, so that it is no place for a word of ours; the other formats are files."""


@click.command("export", short_help="Write the signals as CSV or for TensorBoard.")
@run_option
@click.option("--format", "form", type=click.Choice(sorted(FORMATS)), required=True, help="csv: one file; tensorboard: a directory.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; csv goes to stdout without it.")
@click.option("--abandoned", is_flag=True, help="Also the steps that a restore left behind, each with its branch.")
def command(run: str | None, form: str, output: Path | None, abandoned: bool) -> int:
    """Write every signal of the run, on the present line of branches, in another program's format."""
    found = find(run, acts=False)
    with asking(found) as asked:
        settle(asked)  # without a daemon this takes in what the recorder still holds
        reader = Reader(found.run.history)
        try:
            written = export(reader, form, output, abandoned=abandoned, run=found.info.name)
        finally:
            reader.close()
    if output is not None or form != TO_STDOUT:
        click.echo(written, err=True)
    return 0
