"""Rules of the user's own, made from ``[rules.NAME]`` of sitter.toml."""

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from sitter.config import RULE_KEYS, TOP_LEVEL, Config, RuleConfig, mistyped, place_of, unknown
from sitter.control.ruleset.own_actions import own_actions
from sitter.errors import ConfigError, Mistakes, UsageError
from sitter.model import Proposable
from sitter.rules.base import Rule, RuleParams
from sitter.rules.own.afterwards import afterwards
from sitter.rules.own.expression import ExpressionError, check_names
from sitter.rules.own.rule import Own, OwnParams, lasting, make
from sitter.rules.own.schedule import Scheduled, ScheduleParams
from sitter.rules.own.schedule import make as make_scheduled

BEGINS = frozenset({"when", "every", "at"})
"""What makes a rule one of the user's own: each says when it begins."""
_NAME = re.compile(r"[\w-]{1,40}")
SUCH = {"when": "loss > 3", "for": "100 steps", "every": "1000 steps", "warmup": "200 steps", "back_after": "2000 steps", "do": "lr=0.5x"}
"""How the parameters of such rules are written, for who wrote a bare number."""
Params = TypeVar("Params", bound=RuleParams)


def is_own(mine: RuleConfig) -> bool:
    """Whether a section of a name that no rule has makes one."""
    return not BEGINS.isdisjoint(mine.params)


def kind_of(mine: RuleConfig) -> type[Rule]:
    """Of which kind it is."""
    return Own if "when" in mine.params else Scheduled


def stranger(name: str, known: Collection[str], config: Config, where: str) -> ConfigError:
    """What is wrong with a section of a name that no rule has, and that begins none."""
    line = config.lines.get(f"rules.{name}")
    rule = difflib.get_close_matches(name, known, 1)
    for parameter in config.rules[name].params:
        if not rule and difflib.get_close_matches(parameter, BEGINS, 1, 0.6):
            at_line = config.lines.get(f"rules.{name}.{parameter}")
            return unknown(parameter, sorted(BEGINS), f"{where}: [rules.{name}]", "parameter", at_line)
    if rule:
        return unknown(name, rule, where, "rule", line)
    at = f" (line {line})" if line else ""
    return ConfigError(f"{where} has no rule {name!r}{at}: one of your own needs `when`, `every` or `at`; `sitter rules list` has ours")


def own(name: str, config: Config, where: str, mistakes: Mistakes) -> Rule:
    """The rule. Raises ConfigError with its line: the first mistake in it, which are all noted."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a rule called {name!r}: expected letters, digits, _ and -, at most 40")
    made = _when if kind_of(config.rules[name]) is Own else _scheduled
    return made(name, config, where, mistakes)


def _when(name: str, config: Config, where: str, mistakes: Mistakes) -> Rule:
    params, noted = parameters_of(name, OwnParams, config, where, mistakes), _Noted(name, config, where, mistakes)
    with noted.of("when"):
        check_names(make(name, params, []).expression)
    with noted.of("for"):
        lasting(params.lasting)
    actions = _actions_of(params, noted)
    noted.raise_first()
    return make(name, params, actions)


def _scheduled(name: str, config: Config, where: str, mistakes: Mistakes) -> Rule:
    params, noted = parameters_of(name, ScheduleParams, config, where, mistakes), _Noted(name, config, where, mistakes)
    with noted.of("at" if "at" in config.rules[name].params else "every"):
        make_scheduled(name, params, [])
    actions = _actions_of(params, noted)
    noted.raise_first()
    return make_scheduled(name, params, actions)


def _actions_of(params: OwnParams | ScheduleParams, noted: "_Noted") -> list[Proposable]:
    with noted.of("do"):
        actions = own_actions(params.do)
        afterwards(params, actions)
        return actions
    return []


class _Noted:
    """What is wrong in one rule."""

    def __init__(self, name: str, config: Config, where: str, mistakes: Mistakes) -> None:
        self._name, self._config, self._where, self._mistakes = name, config, where, mistakes
        self._found = Mistakes()

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        """In what ``key`` says, or in what the error names itself."""
        try:
            yield
        except (ExpressionError, UsageError) as e:
            self._found.note(_wrong(self._name, key, self._config, self._where, e))

    def raise_first(self) -> None:
        """Raises ConfigError: the first of it, all noted."""
        for error in self._found.found:
            self._mistakes.note(error)
        self._found.raise_first()


def _wrong(name: str, key: str, config: Config, where: str, error: Exception) -> ConfigError:
    key = getattr(error, "key", "") or key
    line = config.lines.get(f"rules.{name}.{key}", config.lines.get(f"rules.{name}"))
    return ConfigError(f"{where}: [rules.{name}]{f' (line {line})' if line else ''}: {error}")


def parameters_of(name: str, kind: type[Params], config: Config, where: str, mistakes: Mistakes) -> Params:
    """What sitter.toml says of a rule, typed. Raises ConfigError: an unknown one, with the nearest right name; a wrong type; the first of
    them, all noted."""
    mine, noted = config.rules.get(name), Mistakes()
    given = dict(mine.params) if mine else {}
    known = list(kind.__struct_encode_fields__)
    for parameter in [parameter for parameter in given if parameter not in known]:
        noted.note(_not_known(name, parameter, known, config, where))
        del given[parameter]
    made = None
    while made is None:
        try:
            made = msgspec.convert(given, kind)
        except msgspec.ValidationError as e:
            wrong = mistyped(e, given, kind, f"{where}: [rules.{name}]", config.lines, f"rules.{name}")
            parameter = place_of(e)
            if parameter not in given and noted.found:
                break  # it lacks what was wrong
            such = next((f", such as {example!r}" for key, example in SUCH.items() if f": {key} = " in str(wrong)), "")
            noted.note(ConfigError(f"{wrong}{such}"))
            if parameter not in given:
                break
            del given[parameter]
    for error in noted.found:
        mistakes.note(error)
    noted.raise_first()
    assert made is not None
    return made


def _not_known(name: str, parameter: str, known: list[str], config: Config, where: str) -> ConfigError:
    place, line = f"{where}: [rules.{name}]", config.lines.get(f"rules.{name}.{parameter}")
    at = f" (line {line})" if line else ""
    if parameter in BEGINS and BEGINS.isdisjoint(known):
        return ConfigError(f"{place}{at}: {name} is a rule of sitter's; give yours another name")
    if parameter in BEGINS:
        return ConfigError(f"{place}{at}: expected one of `when`, `every` and `at`, found {parameter} beside another")
    if parameter in TOP_LEVEL:
        return ConfigError(f"{place}{at}: {parameter} belongs at the top of the file, before the first [table]")
    return unknown(parameter, [*known, *RULE_KEYS], place, "parameter", line)
