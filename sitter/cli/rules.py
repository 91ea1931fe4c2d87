"""``sitter rules list|show|check``."""

from pathlib import Path

import click

from sitter.cli.common import asking, counted, json_option, print_json_line, run_option
from sitter.clock import human, iso
from sitter.config import Config, parse, unknown
from sitter.control.rule_files import kinds, line_of
from sitter.control.ruleset import beside, build, files
from sitter.control.ruleset import check as check_all
from sitter.control.settings import effective
from sitter.errors import ConfigError
from sitter.grammar import in_words
from sitter.model import Finding, LogEntry, Mode, Notification, RuleState
from sitter.paths import find
from sitter.rules.base import Case, Rule, play
from sitter.rules.own.expression import OTHERS
from sitter.rules.own.facts import names as fact_names
from sitter.rules.own.rule import Own
from sitter.rules.own.schedule import Scheduled
from sitter.rules.own.series import SERIES
from sitter_wire.queries import GetLogbook, GetRules

SHOWN = 20
MOST_LOG = 5_000
"""Of a rule's history: lines shown, and lines of the logbook among which they are looked for."""


@click.group("rules", short_help="List the rules, show one, check a sitter.toml.", no_args_is_help=True)
def command() -> None:
    """See the rules of a run, and check a sitter.toml before it is used."""


@command.command("list", short_help="Every rule: its mode, its budget, what it has found.")
@run_option
@json_option
def list_rules(run: str | None, as_json: bool) -> int:
    """Every rule: what it may do in this run, its budget, what it has found."""
    states = _states(run)
    for s in states:
        if as_json:
            print_json_line(s)
            continue
        budget = f"{s.limit}, {s.left} left" if s.limit else "no budget"
        snoozed = f", snoozed until {iso(s.snoozed_until)}" if s.snoozed_until else ""
        last = f"; last at step {s.last_step:,}: {s.last_text}" if s.last_step is not None else ""
        click.echo(f"{s.name:<20} {s.effective:<6} {budget:<22} {counted(s.findings, 'finding')}{snoozed}{last}")
    return 0


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
    click.echo("\n".join(line.removeprefix("    ") for line in s.doc.strip().splitlines()).replace("``", "`") + "\n")
    budget = f"{s.limit}, {s.left} left" if s.limit else "none"
    click.echo(f"mode {s.mode}, in this run {s.effective}; delay {human(s.delay or 0)}; budget {budget}")
    for key, value in s.params.items():
        click.echo(f"  {key} = {value}")
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


@command.command("check", short_help="Say whether a sitter.toml can be used, else what is wrong.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def check(file: Path) -> int:
    """Say what is wrong in a sitter.toml, where, and the nearest right name. Exit code 0 if it can be used."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"cannot read {file}: {e.strerror}; name a file that can be read") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{file} is not UTF-8 text ({e.reason} at byte {e.start}); save it as that") from e
    config = parse(text, str(file))
    own = _own(config, str(file))
    check_all(config, str(file))
    stories = _stories_told(config, str(file))
    rules, notifiers = counted(len(config.rules), "rule"), counted(len(config.notify), "notifier")
    click.echo(f"{file} is right: mode {config.mode}, {rules} set, {notifiers}{stories}")
    for line in own:
        click.echo(f"  {line}")
    return 0


def _own(config: Config, where: str) -> list[str]:
    """The rules of one's own as they were understood: what is right may still not be what was meant. Raises ConfigError."""
    rules, chosen = build(config, where)
    mine = [rule for rule in rules if isinstance(rule, Own | Scheduled)]
    return [told(rule, effective(chosen[rule.name], config.mode), chosen[rule.name].delay) for rule in mine]


def told(rule: Own | Scheduled, mode: Mode, delay: float) -> str:
    """``too_high: loss > 3 for 100 steps → lr × 0.5; asks first``."""
    when = f"{rule.expression.text}{f' for {rule.lasting}' if rule.lasting.amount else ''}" if isinstance(rule, Own) else rule.title
    done = ", then ".join("notify" if isinstance(a, Notification) and not a.text else in_words(a) for a in rule.actions)
    unasked = f"unasked, {human(delay)} later" if delay else "unasked"
    how = {"off": "off", "watch": "only written down", "ask": "asks first", "act": unasked}[mode]
    return f"{rule.name}: {when} → {f'{done}; {how}' if done else 'a finding'}"


def _stories_told(config: Config, where: str) -> str:
    """The cases of the rules in Python files, each told to a new rule. Raises ConfigError for one that does not say what it should."""
    told = 0
    for path in files(config, beside(where), where):
        for kind in kinds(path):
            for case, fires in [*((case, True) for case in kind.FIRES), *((case, False) for case in kind.QUIET)]:
                found = _played(kind, case, path)
                told += 1
                if fires != bool(found) or (fires and not any(case.says in finding.text for finding in found)):
                    wanted = f"a finding that says {case.says!r}" if fires else "no finding"
                    said = "; ".join(finding.text for finding in found) or "none"
                    raise ConfigError(f"{path}: rule {kind.name}, case {case.title!r}: expected {wanted}, found {said}")
    return f", {counted(told, 'case')} of rules in Python told" if told else ""


def _played(kind: type[Rule], case: Case, path: Path) -> list[Finding]:
    try:
        return play(kind(), case)
    except Exception as e:
        raise ConfigError(f"{path}{line_of(e, path)}: rule {kind.name}, case {case.title!r}: {type(e).__name__}: {e}") from e


@command.command("functions", short_help="What a rule of your own may ask: functions and facts.")
def functions() -> int:
    """What may stand in `when` of a rule of your own, beside the signals that you log."""
    for name, kind in SERIES.items():
        click.echo(f"{f'{name}(loss, 50)' if kind.window else f'{name}(loss)':<24} {(kind.__doc__ or '').splitlines()[0]}")
    click.echo("\n".join(f"{name:<24} {text}" for name, text in OTHERS.items()))
    click.echo(f"\nfacts: {', '.join(fact_names())} (gpu.temp: of the run's first GPU)")
    return 0


def _states(run: str | None) -> list[RuleState]:
    with asking(find(run, acts=False)) as asked:
        states: list[RuleState] = asked.ask(GetRules())
    return states
