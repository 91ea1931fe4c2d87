"""The rules of a run, made from the catalogue and sitter.toml."""

import re
from typing import Any, TypeVar

import msgspec

from sitter.actions.notify.catalogue import make as make_notifier
from sitter.config import Config, RuleConfig, unknown
from sitter.control.deeds import deeds
from sitter.control.settings import RuleDefaults, RuleSetting, settings
from sitter.errors import ConfigError, UsageError
from sitter.rules.base import Rule, RuleParams
from sitter.rules.catalogue import RULES
from sitter.rules.own.expression import ExpressionError, check_names
from sitter.rules.own.rule import Own, OwnParams, make
from sitter.rules.own.schedule import Scheduled, ScheduleParams
from sitter.rules.own.schedule import make as make_scheduled

CATALOGUE = {kind.name: kind for kind in RULES}
BEGINS = frozenset({"when", "every", "at"})
"""What makes a rule one of the user's own: each says when it begins."""
_NAME = re.compile(r"[\w-]{1,40}")
Params = TypeVar("Params", bound=RuleParams)


def build(config: Config, where: str, logged: frozenset[str] = frozenset()) -> tuple[list[Rule], dict[str, RuleSetting]]:
    """Every rule with its parameters, and what each may do: those of the catalogue, then the user's own. ``logged``: signals of this run,
    for hints. Raises ConfigError: an unknown rule or parameter, a wrong type, an expression that is none."""
    own = {name: _kind_of(mine) for name, mine in config.rules.items() if name not in CATALOGUE and not BEGINS.isdisjoint(mine.params)}
    kinds: list[tuple[str, type[Rule]]] = [*CATALOGUE.items(), *own.items()]
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


def _kind_of(mine: RuleConfig) -> type[Rule]:
    return Own if "when" in mine.params else Scheduled


def _own(name: str, config: Config, where: str, logged: frozenset[str]) -> Rule:
    mine = config.rules[name]
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a rule called {name!r}: expected letters, digits, _ and -, at most 40")
    if _kind_of(mine) is Scheduled:
        return _scheduled(name, mine, config, where)
    params = _params(name, OwnParams, dict(mine.params), config, where)
    key = "when"
    try:
        rule = make(name, params, [])
        check_names(rule.expression, logged)
        key = "do"
        return make(name, params, deeds(params.do))
    except (ExpressionError, UsageError) as e:
        raise _wrong(name, key, config, where, e) from e


def _scheduled(name: str, mine: RuleConfig, config: Config, where: str) -> Rule:
    params = _params(name, ScheduleParams, dict(mine.params), config, where)
    key = "at" if "at" in mine.params else "every"
    try:
        make_scheduled(name, params, [])
        key = "do"
        return make_scheduled(name, params, deeds(params.do))
    except (ExpressionError, UsageError) as e:
        raise _wrong(name, key, config, where, e) from e


def _wrong(name: str, key: str, config: Config, where: str, error: Exception) -> ConfigError:
    line = config.lines.get(f"rules.{name}.{key}", config.lines.get(f"rules.{name}"))
    return ConfigError(f"{where}: [rules.{name}]{f' (line {line})' if line else ''}: {error}")


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
