"""Whether a rule of ours can work with the parameters that sitter.toml gives it.

What a type allows may still be no factor or no number of points: a rule that takes the logarithm of 0, or the first of no points, would be
switched off by its first error, and the guard is one of them. So it is told the stories in which it speaks, before it is relied on.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import msgspec

from sitter.config import Config
from sitter.errors import ConfigError
from sitter.rules.base import Case, Rule, RuleParams, play

MOST = 2000
"""Points or seconds of each story. A few last for hours; what fails in the whole of one fails in so much of it, which takes a tenth of a
second for a rule (memory_creep: four)."""


def try_parameters(kind: type[Rule], params: RuleParams, config: Config, where: str) -> None:
    """Raises ConfigError, with the line of the parameter that is at fault, where the rule fails with them."""
    trouble = _trouble(kind, params)
    if not trouble:
        return
    usual = kind.Params()
    names = dict(zip(kind.Params.__struct_fields__, kind.Params.__struct_encode_fields__, strict=True))
    changed = [field for field in names if getattr(params, field) != getattr(usual, field)]
    alone = [field for field in changed if _trouble(kind, msgspec.structs.replace(usual, **{field: getattr(params, field)}))]
    said = " and ".join(f"{names[field]} = {getattr(params, field)!r}" for field in alone or changed)
    line = config.lines.get(f"rules.{kind.name}.{names[(alone or changed)[0]]}")
    defaults = ", ".join(f"{getattr(usual, field)!r}" for field in alone or changed)
    raise ConfigError(
        f"{where}: [rules.{kind.name}]{f' (line {line})' if line else ''}: with {said} the rule fails ({trouble}): expected something like"
        f" {defaults}, see `sitter rules show {kind.name}`"
    )


def _trouble(kind: type[Rule], params: RuleParams) -> str:
    """What it fails at; empty: nothing."""
    try:
        kind(params)
        for case in kind.FIRES:
            if not case.params:  # else it would be told with those
                play(kind(params), dataclasses.replace(case, play=partial(_begun, case)))
    except (ArithmeticError, LookupError, ValueError) as e:
        return f"{type(e).__name__}: {e}"
    return ""


def _begun(case: Case) -> Iterator[Any]:
    return islice(case.play(), MOST)
