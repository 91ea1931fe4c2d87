"""``sitter rules check``."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import click

from sitter.cli.common import counted
from sitter.clock import human
from sitter.config import Config, parse
from sitter.control.ruleset.build import beside, files
from sitter.control.ruleset.build import check as check_all
from sitter.control.ruleset.rule_files import kinds, line_of
from sitter.control.ruleset.settings import effective
from sitter.errors import ConfigError, Mistakes, StoreError
from sitter.grammar import in_words
from sitter.model import Finding, Mode, Notification
from sitter.paths import RUNS, runs
from sitter.rules.base import Case, Rule, play
from sitter.rules.own.hints import near
from sitter.rules.own.rule import Own
from sitter.rules.own.schedule import Scheduled
from sitter.store.reader import Reader
from sitter_wire.commands import SetKnob
from sitter_wire.events import KnobDeclared
from sitter_wire.places import RunDir

USUAL = ("lr", "weight_decay", "momentum", "beta2")
"""Knobs that are offered of torch's optimizers."""


@click.command("check", short_help="Say whether a sitter.toml can be used, else what is wrong.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def check(file: Path) -> int:
    """Say all that is wrong in a sitter.toml, where, and the nearest right name. Exit code 0 if it can be used."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"cannot read {file}: {e.strerror}; name a file that can be read") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{file} is not UTF-8 text ({e.reason} at byte {e.start}); save it as that") from e
    mistakes = Mistakes()
    config = parse(text, str(file), mistakes)
    rules, chosen = check_all(config, str(file), mistakes)
    stories = _stories_told(config, str(file), mistakes)
    for mistake in mistakes.found:
        click.echo(f"sitter: {mistake}", err=True)
    if mistakes.found:
        return ConfigError.exit_code
    counts = counted(len(config.rules), "rule"), counted(len(config.notify), "notifier")
    click.echo(f"{file} is right: mode {config.mode}, {counts[0]} set, {counts[1]}{stories}")
    mine = [rule for rule in rules if isinstance(rule, Own | Scheduled)]
    for rule in mine:  # what is right may still not be what was meant
        click.echo(f"  {told(rule, effective(chosen[rule.name], config.mode), chosen[rule.name].delay)}")
    for line in strange_knobs(mine, knobs_of(file)):
        click.echo(f"  {line}")
    return 0


def told(rule: Own | Scheduled, mode: Mode, delay: float) -> str:
    """``too_high: loss > 3 for 100 steps → lr × 0.5; asks first``."""
    when = f"{rule.expression.text}{f' for {rule.lasting}' if rule.lasting.amount else ''}" if isinstance(rule, Own) else rule.title
    done = ", then ".join("notify" if isinstance(a, Notification) and not a.text else in_words(a) for a in rule.actions)
    unasked = f"unasked, {human(delay)} later" if delay else "unasked"
    how = {"off": "off", "watch": "only written down", "ask": "asks first", "act": unasked}[mode]
    return f"{rule.name}: {when} → {f'{done}; {how}' if done else 'a finding'}"


def knobs_of(file: Path) -> tuple[str, list[str]] | None:
    """The run that this file is of, else the newest of those beside it, and the knobs that its training has named. None: not known."""
    folder = file.resolve().parent
    mine = [RunDir(folder)] if (folder / "run.toml").is_file() else [f.run for f in runs() if f.run.path.resolve().parent == folder / RUNS]
    for run in mine[:1]:
        try:
            with closing(Reader(run.history)) as reader:
                declared = [stored.happening.event for stored in reader.events(["knob"])]
        except StoreError:
            continue
        if names := sorted({event.spec.name for event in declared if isinstance(event, KnobDeclared)}):
            return run.name, names
    return None


def strange_knobs(rules: Sequence[Own | Scheduled], known: tuple[str, list[str]] | None) -> Iterator[str]:
    """A sentence for each knob that a rule would set and that the run does not have; where no run has named any, for each that is none of
    ``USUAL``."""
    names = known[1] if known else list(USUAL)
    for rule in rules:
        for name in dict.fromkeys(a.knob for a in rule.actions if isinstance(a, SetKnob)):
            if name in names:
                continue
            meant = near(name, names)
            has = f"which run {known[0]} does not have (it has {', '.join(names)})" if known else "and no run has named its knobs yet"
            yield f"but {rule.name} sets {name}, {has}; it is refused where the training names no such knob{f': {meant}' if meant else ''}"


def _stories_told(config: Config, where: str, mistakes: Mistakes) -> str:
    """The cases of the rules in Python files, each told to a new rule; what one does not say as it should is noted."""
    told = 0
    for path in files(config, beside(where), where, mistakes):
        with mistakes:
            for kind in kinds(path):
                for case, fires in [*((case, True) for case in kind.FIRES), *((case, False) for case in kind.QUIET)]:
                    told += 1
                    with mistakes:
                        _tell(kind, case, fires, path)
    return f", {counted(told, 'case')} of rules in Python told" if told else ""


def _tell(kind: type[Rule], case: Case, fires: bool, path: Path) -> None:
    """Raises ConfigError where it does not say what it should."""
    found = _played(kind, case, path)
    if fires != bool(found) or (fires and not any(case.says in finding.text for finding in found)):
        wanted = f"a finding that says {case.says!r}" if fires else "no finding"
        said = "; ".join(finding.text for finding in found) or "none"
        raise ConfigError(f"{path}: rule {kind.name}, case {case.title!r}: expected {wanted}, found {said}")


def _played(kind: type[Rule], case: Case, path: Path) -> list[Finding]:
    try:
        return play(kind(), case)
    except Exception as e:
        raise ConfigError(f"{path}{line_of(e, path)}: rule {kind.name}, case {case.title!r}: {type(e).__name__}: {e}") from e
