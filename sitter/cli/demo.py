"""``sitter demo``: see in a few minutes what it is about, without a GPU, a download or a script of one's own."""

import shutil
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from sitter.canvas import ENDINGS
from sitter.cli.common import json_option, print_json
from sitter.cli.demo_screen import screen
from sitter.cli.run import prepare
from sitter.demo.curves import picture
from sitter.demo.runs import HEADLESS_STEPS, WATCHED_STEPS, Demo, Outcome, Plan, verdict
from sitter.errors import UsageError
from sitter.tui.palette import palette


@click.command("demo", short_help="See it at work: a real training, hit by troubles and rescued.")
@click.option("--no-ui", "no_ui", is_flag=True, help="Without the screen: progress on stderr, ends within 90 s on two cores.")
@json_option
@click.option("--plot", "plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the curves into FILE.png or FILE.svg.")
@click.option(
    "--steps", type=click.IntRange(min=200), metavar="N", help=f"Steps of each run ({WATCHED_STEPS:,}; {HEADLESS_STEPS:,} with --no-ui)."
)
@click.option("--seed", type=int, default=0, metavar="N", show_default=True, help="Of all three runs.")
def command(no_ui: bool, as_json: bool, plot: Path | None, steps: int | None, seed: int) -> int:
    """Train a real model on real text three times: clean, with planted troubles and nobody there, and with them under sitter.

    The troubles: after a third of the steps somebody multiplies the learning rate by 100; after two thirds three batches are NaN.
    """
    if plot is not None:
        _check_plot(plot)
    watched = not (no_ui or as_json or not sys.stdout.isatty())
    plan = Plan(steps=steps or (WATCHED_STEPS if watched else HEADLESS_STEPS), seed=seed)
    demo = Demo(plan, say=lambda line: click.echo(line, err=True))
    finished = False
    try:
        run = prepare(demo.command, name="demo", rules=None, mode="guard", then="")
        demo.start(run)
        after = " · the comparison comes when you leave the screen (q)" if watched else ""
        click.echo(f"sitter demo: run {run.name}, {plan.steps:,} steps a run, planted: {plan.plant}{after}", err=True)
        if watched:
            from sitter.cli.screen import show  # textual takes a moment to import, and --no-ui has no use for it

            show(run)
        demo.follow()
        outcome = demo.finish()
        finished = True
    finally:
        demo.close(stop_training=not finished)
    if plot is not None:
        picture(outcome.trained, outcome.incidents, plot)
        click.echo(f"drawn: {plot}", err=True)
    if as_json:
        print_json(outcome.told())
    else:
        _show(outcome)
    return 0 if outcome.trained["babysat"].died_at_step is None else 1


def _show(outcome: Outcome) -> None:
    console = Console(highlight=False)
    size = shutil.get_terminal_size((100, 30))
    styles = palette(light=False, colour=not console.no_color and console.is_terminal)
    plain = not (console.encoding or "").lower().startswith("utf")
    for line in screen(outcome.trained, outcome.incidents, min(size.columns, 120), min(max(size.lines - 8, 14), 28), ascii=plain):
        text = Text()
        for part, style in line:
            text.append(part, styles.style(style))
        console.print(text, soft_wrap=True)
    for sentence in verdict(outcome):
        console.print(Text(sentence), soft_wrap=True)


def _check_plot(path: Path) -> None:
    """Before a minute is spent. Raises UsageError."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--plot {path}: expected a name that ends in {' or '.join(ENDINGS)}")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"--plot {path}: the folder {path.resolve().parent} is not there; make it first")
