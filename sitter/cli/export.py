"""``sitter export``: the signals, for other programs."""

from pathlib import Path

import click

from sitter.cli.common import asking, run_option, settle
from sitter.errors import SitterError, UsageError
from sitter.paths import find
from sitter.report.interventions import interventions as interventions_of
from sitter.report.repeat import toml
from sitter.store.export import FORMATS, export
from sitter.store.reader import Reader

TO_STDOUT = "csv"
"""What is written to stdout where no place is named, so that it is no place for a word of ours; the other formats are files."""


@click.command("export", short_help="Write the signals as CSV or for TensorBoard.")
@run_option
@click.option("--format", "form", type=click.Choice(sorted(FORMATS)), help="csv: one file; tensorboard: a directory.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; csv goes to stdout without it.")
@click.option("--abandoned", is_flag=True, help="Also the steps that a restore left behind, each with its branch.")
@click.option("--interventions", is_flag=True, help="Instead of signals: what was done to it, as a sitter.toml that repeats it.")
def command(run: str | None, form: str | None, output: Path | None, abandoned: bool, interventions: bool) -> int:
    """Write every signal of the run, on the present line of branches, in another program's format. With --interventions: a sitter.toml that
    does to another run what was done to this one, at the same steps."""
    if interventions == (form is not None):
        raise UsageError("export needs one of --format csv, --format tensorboard and --interventions")
    found = find(run, acts=False)
    with asking(found) as asked:
        settle(asked)  # without a daemon this takes in what the recorder still holds
        reader = Reader(found.run.history)
        try:
            if form is None:
                return _interventions(reader, found.info.name, output)
            written = export(reader, form, output, abandoned=abandoned, run=found.info.name)
        finally:
            reader.close()
    if output is not None or form != TO_STDOUT:
        click.echo(written, err=True)
    return 0


def _interventions(reader: Reader, name: str, output: Path | None) -> int:
    text = toml(name, interventions_of(reader))
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as e:
        raise SitterError(f"cannot write {output} ({e.strerror}): choose another place with -o") from e
    click.echo(f"wrote {output}: try it with `sitter rules check {output}`", err=True)
    return 0
