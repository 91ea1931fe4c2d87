"""The rules of a run, made from the catalogue, from Python files, and from sitter.toml."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from sitter.actions.notify.catalogue import make as make_notifier
from sitter.config import Config
from sitter.control.ruleset.own_rules import is_own, kind_of, own, parameters_of, stranger
from sitter.control.ruleset.parameter_trial import try_parameters
from sitter.control.ruleset.rule_files import found, kinds, made
from sitter.control.ruleset.settings import RuleDefaults, RuleSetting, settings
from sitter.errors import ConfigError, Mistakes
from sitter.rules.base import Rule
from sitter.rules.catalogue import RULES
from sitter_wire.places import RunDir
from sitter_wire.rundir import RunInfo


def build(
    config: Config, where: str, places: Sequence[Path] | None = None, mistakes: Mistakes | None = None
) -> tuple[list[Rule], dict[str, RuleSetting]]:
    """Every rule with its parameters, and what each may do: those of the catalogue, those of Python files, those of the user's own.

    ``places``: where rule files may lie (None: beside ``where``, and here). Raises ConfigError: an unknown rule or parameter, a wrong type,
    a value with which the rule fails, an expression that is none, a file that cannot be run; the first of them. With ``mistakes`` all are
    noted there, and the rules that are right come back."""
    noted = Mistakes() if mistakes is None else mistakes
    before = len(noted.found)
    written: dict[str, type[Rule]] = {kind.name: kind for kind in RULES}
    for path in files(config, places if places is not None else beside(where), where, noted):
        with noted:
            for kind in kinds(path):
                if kind.name in written:
                    raise ConfigError(f"{path}: there is a rule {kind.name!r} already: expected another name for class {kind.__name__}")
                written[kind.name] = kind
    all_read = len(noted.found) == before  # else a section may be of a rule that could not be read
    mine = {name: kind_of(its) for name, its in config.rules.items() if name not in written and is_own(its)}
    for name in config.rules if all_read else ():
        if name not in written and name not in mine:
            noted.note(stranger(name, written, config, where))
    defaults = [
        RuleDefaults(
            name=name, guard=kind.guard, mode=kind.default_mode, delay=kind.default_delay, limit=kind.default_limit, cools=kind.cools
        )
        for name, kind in {**written, **mine}.items()
    ]
    known = {name: its for name, its in config.rules.items() if name in written or name in mine}
    chosen = settings(defaults, msgspec.structs.replace(config, rules=known), where)
    rules: list[Rule] = []
    for name, kind in written.items():
        with noted:
            params = parameters_of(name, kind.Params, config, where, noted)
            if kind in RULES and params != kind.Params():
                try_parameters(kind, params, config, where)
            rules.append(made(kind, params))
    for name in mine:
        with noted:
            rules.append(own(name, config, where, noted))
    if mistakes is None:
        noted.raise_first()
    return rules, chosen


def files(config: Config, places: Sequence[Path], where: str = "sitter.toml", mistakes: Mistakes | None = None) -> list[Path]:
    """The Python files that the settings name. Raises ConfigError for one that is nowhere; with ``mistakes`` that is noted there."""
    out = []
    for name in config.rule_files:
        with mistakes or nullcontext():
            out.append(found(name, config, where, places))
    return out


def beside(where: str) -> tuple[Path, ...]:
    """Where the rule files of a ``sitter.toml`` may lie: beside it, and in the present directory."""
    return Path(where).parent, Path.cwd()


def rule_places(run: RunDir, info: RunInfo) -> tuple[Path, ...]:
    """Where the rule files of a run may lie: in its directory, where they were copied to, and where the training runs."""
    return run.path, Path(info.cwd)


def check(config: Config, where: str, mistakes: Mistakes | None = None) -> tuple[list[Rule], dict[str, RuleSetting]]:
    """All that a daemon would refuse to start with: rules, parameters, notifiers. Returns and raises what ``build`` does."""
    noted = Mistakes() if mistakes is None else mistakes
    built = build(config, where, mistakes=mistakes)
    for notifier in config.notify:
        try:
            make_notifier(notifier)
        except ConfigError as e:
            noted.note(ConfigError(f"{where}: {e}"))
    if mistakes is None:
        noted.raise_first()
    return built


def parameters(rule: Rule) -> dict[str, float | int | str | bool | list[str] | None]:
    """A rule's parameters as plain values, as sitter.toml spells them."""
    return {name: getattr(rule.params, field) for field, name in zip(
        rule.params.__struct_fields__, rule.params.__struct_encode_fields__, strict=True
    )}  # fmt: skip
