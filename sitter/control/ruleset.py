"""The rules of a run, made from the catalogue and sitter.toml."""

import msgspec

from sitter.actions.notify.catalogue import make as make_notifier
from sitter.config import Config, unknown
from sitter.control.settings import RuleDefaults, RuleSetting, settings
from sitter.errors import ConfigError
from sitter.rules.base import Rule
from sitter.rules.catalogue import RULES


def build(config: Config, where: str) -> tuple[list[Rule], dict[str, RuleSetting]]:
    """Every rule with its parameters, and what each may do. Raises ConfigError: an unknown rule or parameter, a wrong type."""
    defaults = [
        RuleDefaults(name=r.name, guard=r.guard, mode=r.default_mode, delay=r.default_delay, limit=r.default_limit)
        for r in RULES
    ]
    chosen = settings(defaults, config, where)
    return [_make(kind, config, where) for kind in RULES], chosen


def check(config: Config, where: str) -> None:
    """All that a daemon would refuse to start with. Raises ConfigError: rules, parameters, notifiers."""
    build(config, where)
    for notifier in config.notify:
        try:
            make_notifier(notifier)
        except ConfigError as e:
            raise ConfigError(f"{where}: {e}") from e


def _make(kind: type[Rule], config: Config, where: str) -> Rule:
    mine = config.rules.get(kind.name)
    given = dict(mine.params) if mine else {}
    for name in given:
        if name not in kind.Params.__struct_fields__:
            line = config.lines.get(f"rules.{kind.name}.{name}")
            raise unknown(name, list(kind.Params.__struct_fields__), f"{where}: [rules.{kind.name}]", "parameter", line)
    try:
        return kind(msgspec.convert(given, kind.Params))
    except msgspec.ValidationError as e:
        raise ConfigError(f"{where}: [rules.{kind.name}]: {e}") from e


def parameters(rule: Rule) -> dict[str, float | int | str | bool | list[str] | None]:
    """A rule's parameters as plain values."""
    return dict(msgspec.structs.asdict(rule.params))
