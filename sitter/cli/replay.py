"""``sitter replay``: rules tried on the past."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sitter.cli.common import asking, counted, json_option, print_json_line, settle
from sitter.clock import human
from sitter.config import Config, load, parse
from sitter.control.ruleset.build import build
from sitter.errors import ConfigError, UsageError
from sitter.paths import find
from sitter.replay.from_csv import from_csv
from sitter.replay.from_run import from_run
from sitter.replay.player import Player
from sitter.replay.record import MARKED, Record
from sitter.replay.story import Story
from sitter.rules.base import changes
from sitter.rules.own.rule import Own
from sitter.rules.own.schedule import Scheduled
from sitter.store.reader import Reader
from sitter.tui.chart import Look, draw
from sitter.tui.lines import text_of, to_ascii

HEIGHT = 14
UTF = ("utf8", "utf16")
MOST_LINES = 60
"""Findings that are listed; the rest are counted, and ``--json`` has them."""


@click.command("replay", short_help="Try the rules on a recorded run or a CSV.")
@click.argument("what", metavar="FILE_OR_RUN")
@click.option(
    "--rules", type=click.Path(dir_okay=False, path_type=Path), help="A sitter.toml; without it that of the run, else the defaults."
)
@json_option
def command(what: str, rules: Path | None, as_json: bool) -> int:
    """Tell the rules a recorded run, or a CSV, as it would have come live, and say what they would have found and done.

    A CSV has a column `step` and any of train_loss (or loss), val_loss, lr, grad_norm, and others that your own rules name; an empty field
    was not logged, `nan` was NaN. A CSV as TensorBoard, W&B, Lightning or Keras write it is read too, the HF Trainer's trainer_state.json,
    and JSON with a record a line. Each may be packed (gzip), and come by a pipe (`-`). Nothing is changed anywhere.
    """
    for story, config, where in _stories(what, rules):
        if not story.timed and (silent := _by_the_clock(config, where)):
            click.echo(f"sitter: {story.name} has no times, so what goes by the clock or the machine says nothing: {silent}", err=True)
        record = Record()
        player = Player(config, where)
        for line in player.play(story if as_json else record.heard(story)):
            if as_json:
                print_json_line(line)
            else:
                record.lines.append(line)
        if not as_json:
            _show(record, story, where)
    return 0


def _by_the_clock(config: Config, where: str) -> str:
    """Rules of one's own that wait for a time, or look at the machine."""
    rules, _ = build(config, where)
    return ", ".join(
        rule.name for rule in rules
        if (isinstance(rule, Own) and not rule.expression.signals and not rule.expression.by_step)
        or (isinstance(rule, Scheduled) and changes(rule, "tick"))
    )  # fmt: skip


def _stories(what: str, rules: Path | None) -> Iterator[tuple[Story, Config, str]]:
    """One; what was opened for it is closed afterwards."""
    path = Path("/dev/stdin" if what == "-" else what)
    if path.exists() and not path.is_dir():
        yield from_csv(path, lambda text: click.echo(f"sitter: {text}", err=True)), *_config(rules, None)
        return
    if path.suffix.lower() == ".csv":
        raise UsageError(f"no file {what}; expected a CSV, or the name or directory of a run")
    found = find(what, acts=False)
    with asking(found) as asked:
        settle(asked)
    reader = Reader(found.run.history)
    try:
        yield from_run(reader, found.info.name), *_config(rules, found.run.sitter_toml)
    finally:
        reader.close()


def _config(rules: Path | None, own: Path | None) -> tuple[Config, str]:
    if rules is None:
        return (load(own), str(own)) if own is not None and own.exists() else (Config(), "the defaults")
    try:
        return parse(rules.read_text(encoding="utf-8"), str(rules)), str(rules)
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read {rules}: {e}") from e


def _show(record: Record, story: Story, where: str) -> None:
    """The sums, the curve with the findings on it, the findings."""
    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 160))
    if not record.samples:
        click.echo(f"{story.name}: no value is in it, so there was nothing to tell the rules")
        return
    counts = record.counts()
    took = f" in {human(record.seconds)}" if story.timed else ""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") not in UTF

    def say(text: str) -> None:
        click.echo(to_ascii(text) if ascii_only else text)

    ends = "".join(f" · {name} {v[0]:.4g} → {v[1]:.4g}" for name in ("loss", "val_loss") if (v := record.ends(name)) is not None)
    say(f"{story.name}: steps {record.first or 0:,} to {record.last:,}{took}{ends}")
    found = ", ".join(f"{counts[s]} {s}" for s in ("critical", "warning", "info"))
    say(f"rules of {where}: {counted(len(record.lines), 'finding')} ({found}); would have acted {counts['acts']} × unasked, "
               f"and asked {counts['asks']} ×")  # fmt: skip
    say("")
    say(text_of(draw(record.curves(), Look(goal="val_loss", ascii=ascii_only), width, HEIGHT)))
    shown = [line for line in record.lines if line.severity in MARKED or line.action is not None]
    if shown:
        say("")
    for line in shown[:MOST_LINES]:
        what = "acts" if line.acts else "asks" if line.action is not None and line.mode == "ask" else line.mode
        does = f" → {line.action}" if line.action is not None else ""
        say(f"{line.step:>10,}  {line.severity:<8}  {line.rule:<16} {what:<5}  {line.text}{does}")
    if len(shown) > MOST_LINES:
        say(f"  … and {len(shown) - MOST_LINES:,} more: `--json` has them all")
