"""Rules in Python, from files that ``sitter.toml`` names: ``rule_files = ["my_rules.py"]``. They run in the daemon, beside the training."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import get_args

from sitter.config import Config, parse_limit, seconds
from sitter.control.ruleset.careful import bounded, limited
from sitter.errors import ConfigError
from sitter.model import Mode
from sitter.rules.base import Rule, RuleParams

_NAME = re.compile(r"[\w-]{1,40}")


def found(name: str, config: Config, where: str, places: Sequence[Path]) -> Path:
    """The file of that name in the first of ``places`` that has it. Raises ConfigError: it is nowhere."""
    paths = [Path(name)] if Path(name).is_absolute() else [place / name for place in places]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        line = config.lines.get("rule_files")
        looked = ", ".join(str(p.parent) for p in paths)
        raise ConfigError(f"{where}{f' (line {line})' if line else ''}: no file {name}; looked in {looked}")
    return path


def kinds(path: Path) -> list[type[Rule]]:
    """The rules that a file defines, in its order. Raises ConfigError: it cannot be run, holds none, or one that is incomplete."""
    try:
        source = path.read_bytes()
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}; mend its permissions, or take it out of rule_files") from e
    module = _run(path, source)
    made = [
        kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Rule) and kind.__module__ == module.__name__
    ]
    if not made:
        raise ConfigError(f"{path} defines no rule: expected a class that derives from sitter.rules.base.Rule")
    for kind in made:
        if wrong := _wrong(kind):
            raise ConfigError(f"{path}: class {kind.__name__} {wrong}")
        setattr(kind, SOURCE, source)
    return [bounded(kind) for kind in made]


def _wrong(kind: type[Rule]) -> str:
    """What is missing in a class, or no such thing; empty: nothing."""
    for attribute in ("name", "title"):
        if not isinstance(getattr(kind, attribute, None), str):
            return f"has no {attribute}: expected `{attribute} = \"…\"` in it"
    if not _NAME.fullmatch(kind.name):
        return f"has name = {kind.name!r}: expected letters, digits, _ and -, at most 40"
    if not (vars(kind).get("__doc__") or "").strip():
        return "has no docstring: it is the page that `sitter rules show` prints"
    if kind.signals is not None and not (isinstance(kind.signals, tuple | list) and all(isinstance(name, str) for name in kind.signals)):
        return f'has signals = {kind.signals!r}: expected a tuple such as ("loss",), or None for every point'
    if kind.default_mode not in get_args(Mode):
        return f"has default_mode = {kind.default_mode!r}: expected one of {', '.join(get_args(Mode))}"
    if not (isinstance(kind.Params, type) and issubclass(kind.Params, RuleParams)):
        return "has Params of another kind: expected `class Params(Rule.Params, frozen=True)`"
    try:
        parse_limit(kind.default_limit, "default_limit")
        seconds(kind.default_delay, "default_delay")
    except (ConfigError, AttributeError) as e:
        return f"has {e}"
    return ""


def made(kind: type[Rule], params: RuleParams) -> Rule:
    """A rule of such a class. Raises ConfigError: what its ``__init__`` raises."""
    try:
        with limited():
            return kind(params)
    except (Exception, SystemExit) as e:
        if not hasattr(kind, SOURCE):
            raise
        raise ConfigError(f"rule {kind.name} cannot be made: {type(e).__name__}: {e}") from e


SOURCE = "_source"
"""What a class of such a file bears: the file's content, by which it is known to be the same when the file is read anew."""


def _run(path: Path, source: bytes) -> ModuleType:
    """The file as a module of a name of its own; nothing of it stays among the modules, so that it can be read anew."""
    name = f"sitter_rules_of_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file: expected one whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and msgspec look their module up
    try:
        with limited():
            exec(compile(source, str(path), "exec"), vars(module))  # not by the loader: its cache knows whole seconds only
    except (Exception, SystemExit) as e:
        raise ConfigError(f"{path}{line_of(e, path)}: {type(e).__name__}: {e}") from e
    finally:
        del sys.modules[name]
    return module


def line_of(error: BaseException, path: Path) -> str:
    """`` (line 7)`` of that file; empty where it has no part in it."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if error.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""
