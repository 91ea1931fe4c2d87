"""``sitter rules list|show|functions``; ``check`` has a file of its own."""

import json
import shutil
import sys
import textwrap
from pathlib import Path

import click

from sitter.cli.common import asking, counted, json_option, print_json_line, run_option
from sitter.cli.rules_check import check
from sitter.clock import human, iso
from sitter.config import load, unknown
from sitter.control.ruleset.build import build
from sitter.control.ruleset.settings import effective
from sitter.control.tally import unused
from sitter.model import LogEntry, RuleState
from sitter.paths import find, runs
from sitter.rules.meanings import meanings
from sitter.rules.own.expression import OTHERS
from sitter.rules.own.facts import names as fact_names
from sitter.rules.own.series import SERIES
from sitter_wire.queries import GetLogbook, GetRules

SHOWN = 20
MOST_LOG = 5_000
"""Of a rule's history: lines shown, and lines of the logbook among which they are looked for."""


@click.group("rules", short_help="List the rules, show one, check a sitter.toml.", no_args_is_help=True)
def command() -> None:
    """See the rules of a run, and check a sitter.toml before it is used."""


command.add_command(check)


@command.command("list", short_help="Every rule: its mode, its budget, what it has found.")
@run_option
@json_option
def list_rules(run: str | None, as_json: bool) -> int:
    """Every rule: what it may do in this run, its budget, what it has found. Where there is no run yet: the rules that one would have."""
    states = _states(run)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for s in states:
        if as_json:
            print_json_line(s)
        else:
            click.echo(_line(s)[:width])
    return 0


def _line(s: RuleState) -> str:
    """``gpu_hot  ask  6 per day, 5 left  2 × step 1,234: GPU 0 is at 91 °C``."""
    budget = f"{s.limit}, {s.left} left" if s.limit else "no budget"
    mode = "broken" if s.broken else s.effective
    text = s.title if s.last_step is None else f"step {s.last_step:,}: {s.last_text}"
    snoozed = f"snoozed until {iso(s.snoozed_until)}; " if s.snoozed_until else ""
    return f"{s.name:<19} {mode:<6} {budget:<22} {f'{s.findings:>3} ×' if s.findings else '    –'}  {snoozed}{text}"


@command.command("show", short_help="A rule's page: what it watches, and why; its parameters.")
@click.argument("name")
@run_option
def show(name: str, run: str | None) -> int:
    """A rule's page: what it watches and why, its parameters, its state in this run."""
    states = {s.name: s for s in _states(run)}
    if name not in states:
        raise unknown(name, list(states), "the catalogue", "rule")
    s = states[name]
    click.echo(f"{s.name}: {s.title}{'  (guard)' if s.guard else ''}\n")
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    paragraphs = (" ".join(paragraph.split()) for paragraph in s.doc.replace("``", "`").split("\n\n"))
    click.echo("\n\n".join(textwrap.fill(paragraph, width) for paragraph in paragraphs).strip() + "\n")
    budget = f"{s.limit}, {s.left} left" if s.limit else "none"
    click.echo(f"mode {s.mode}, in this run {s.effective}; delay {human(s.delay or 0)}; budget {budget}")
    for key, value in s.params.items():
        meant = meanings(s.name).get(key, "")
        text = f"{key} = {json.dumps(value, ensure_ascii=False)}{f'  # {meant}' if meant else ''}"
        click.echo(textwrap.fill(text, width, initial_indent="  ", subsequent_indent="      "))
    if s.broken:
        click.echo(s.broken)
    if run is None and not runs():
        return 0
    click.echo(
        f"{counted(s.findings, 'finding')} since the daemon started"
        + (f"; last at step {s.last_step:,}: {s.last_text}" if s.last_step is not None else "")
    )
    _history(name, run)
    return 0


def _history(name: str, run: str | None) -> None:
    """What it has found in this run, and what came of it, newest last."""
    with asking(find(run, acts=False)) as asked:
        log: list[LogEntry] = asked.ask(GetLogbook(limit=MOST_LOG))
    mine = [entry for entry in log if entry.rule == name]
    if mine:
        click.echo(f"\nin this run{f' (the last {SHOWN} of {len(mine):,} lines)' if len(mine) > SHOWN else ''}:")
    for entry in mine[-SHOWN:]:
        step = f"{entry.step:,}" if entry.step is not None else "–"
        click.echo(f"  {iso(entry.time)}  {step:>10}  {entry.kind:<8} {entry.status or '':<10} {entry.detail}")


@command.command("functions", short_help="What a rule of your own may ask: functions and facts.")
def functions() -> int:
    """What may stand in `when` of a rule of your own, beside the signals that you log."""
    for name, kind in SERIES.items():
        click.echo(f"{f'{name}(loss, 50)' if kind.window else f'{name}(loss)':<24} {(kind.__doc__ or '').splitlines()[0]}")
    click.echo("\n".join(f"{name:<24} {text}" for name, text in OTHERS.items()))
    click.echo(f"\nfacts: {', '.join(fact_names())} (gpu.temp: of the run's first GPU)")
    return 0


def _states(run: str | None) -> list[RuleState]:
    if run is None and not runs():
        here = Path("sitter.toml")
        config = load(here)
        rules, chosen = build(config, str(here))
        return [unused(rule, chosen[rule.name], effective(chosen[rule.name], config.mode)) for rule in rules]
    with asking(find(run, acts=False)) as asked:
        states: list[RuleState] = asked.ask(GetRules())
    return states
