"""``sitter rules check``."""

from pathlib import Path

import click

from sitter.cli.common import counted
from sitter.clock import human
from sitter.config import Config, parse
from sitter.control.ruleset.build import beside, build, files
from sitter.control.ruleset.build import check as check_all
from sitter.control.ruleset.rule_files import kinds, line_of
from sitter.control.ruleset.settings import effective
from sitter.errors import ConfigError
from sitter.grammar import in_words
from sitter.model import Finding, Mode, Notification
from sitter.rules.base import Case, Rule, play
from sitter.rules.own.rule import Own
from sitter.rules.own.schedule import Scheduled


@click.command("check", short_help="Say whether a sitter.toml can be used, else what is wrong.")
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
