"""The rules of a run, made from the catalogue and sitter.toml."""

import re
from typing import Any, TypeVar

import msgspec

from sitter.actions.notify.catalogue import make as make_notifier
from sitter.config import Config, unknown
from sitter.control.deeds import deeds
from sitter.control.settings import RuleDefaults, RuleSetting, settings
from sitter.errors import ConfigError, UsageError
from sitter.rules.base import Rule, RuleParams
from sitter.rules.catalogue import RULES
from sitter.rules.own.expression import ExpressionError, check_names
from sitter.rules.own.rule import Own, OwnParams, make

CATALOGUE = {kind.name: kind for kind in RULES}
_NAME = re.compile(r"[\w-]{1,40}")
Params = TypeVar("Params", bound=RuleParams)


def build(config: Config, where: str, logged: frozenset[str] = frozenset()) -> tuple[list[Rule], dict[str, RuleSetting]]:
    """Every rule with its parameters, and what each may do: those of the catalogue, then the user's own. ``logged``: signals of this run,
    for hints. Raises ConfigError: an unknown rule or parameter, a wrong type, an expression that is none."""
    own = {name: mine for name, mine in config.rules.items() if name not in CATALOGUE and "when" in mine.params}
    kinds: list[tuple[str, type[Rule]]] = [*CATALOGUE.items(), *((name, Own) for name in own)]
    defaults = [
        RuleDefaults(name=name, guard=r.guard, mode=r.default_mode, delay=r.default_delay, limit=r.default_limit) for name, r in kinds
    ]
    chosen = settings(defaults, config, where)
    rules = [_make(kind, config, where) for kind in RULES]
    return [*rules, *(_own(name, config, where, logged) for name in own)], chosen


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
    return kind(_params(kind.name, kind.Params, dict(mine.params) if mine else {}, config, where))


def _own(name: str, config: Config, where: str, logged: frozenset[str]) -> Rule:
    mine = config.rules[name]
    params = _params(name, OwnParams, dict(mine.params), config, where)
    key = "when"
    try:
        if not _NAME.fullmatch(name):
            raise ExpressionError(f"a rule called {name!r}: expected letters, digits, _ and -, at most 40")
        rule = make(name, params, [])
        check_names(rule.expression, logged)
        key = "do"
        return make(name, params, deeds(params.do))
    except (ExpressionError, UsageError) as e:
        line = config.lines.get(f"rules.{name}.{key}", config.lines.get(f"rules.{name}"))
        raise ConfigError(f"{where}: [rules.{name}]{f' (line {line})' if line else ''}: {e}") from e


def _params(name: str, kind: type[Params], given: dict[str, Any], config: Config, where: str) -> Params:
    known = list(kind.__struct_encode_fields__)
    for parameter in given:
        if parameter not in known:
            line = config.lines.get(f"rules.{name}.{parameter}")
            raise unknown(parameter, known, f"{where}: [rules.{name}]", "parameter", line)
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{where}: [rules.{name}]: {e}") from e


def parameters(rule: Rule) -> dict[str, float | int | str | bool | list[str] | None]:
    """A rule's parameters as plain values, as sitter.toml spells them."""
    return {name: getattr(rule.params, field) for field, name in zip(
        rule.params.__struct_fields__, rule.params.__struct_encode_fields__, strict=True
    )}  # fmt: skip
