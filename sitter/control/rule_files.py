"""Rules in Python, from files that ``sitter.toml`` names: ``rule_files = ["my_rules.py"]``. They run in the daemon, beside the training."""

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from sitter.config import Config
from sitter.errors import ConfigError
from sitter.rules.base import Rule


def found(config: Config, where: str, places: Sequence[Path]) -> list[Path]:
    """The files, each in the first of ``places`` that has it. Raises ConfigError for one that is nowhere."""
    out = []
    for name in config.rule_files:
        paths = [Path(name)] if Path(name).is_absolute() else [place / name for place in places]
        path = next((p for p in paths if p.is_file()), None)
        if path is None:
            line = config.lines.get("rule_files")
            looked = ", ".join(str(p.parent) for p in paths)
            raise ConfigError(f"{where}{f' (line {line})' if line else ''}: no file {name}; looked in {looked}")
        out.append(path)
    return out


def kinds(path: Path) -> list[type[Rule]]:
    """The rules that a file defines, in its order. Raises ConfigError: it cannot be run, holds none, or one that is incomplete."""
    source = path.read_bytes()
    module = _run(path, source)
    made = [
        kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Rule) and kind.__module__ == module.__name__
    ]
    if not made:
        raise ConfigError(f"{path} defines no rule: expected a class that derives from sitter.rules.base.Rule")
    for kind in made:
        for attribute in ("name", "title"):
            if not isinstance(getattr(kind, attribute, None), str):
                raise ConfigError(f"{path}: class {kind.__name__} has no {attribute}: expected `{attribute} = \"…\"` in it")
        if not (kind.__doc__ or "").strip():
            raise ConfigError(f"{path}: class {kind.__name__} has no docstring: it is the page that `sitter rules show` prints")
        setattr(kind, SOURCE, source)
    return made


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
        exec(compile(source, str(path), "exec"), vars(module))  # not by the loader: its cache knows whole seconds only
    except (Exception, SystemExit) as e:
        raise ConfigError(f"{path}{_line(e, path)}: {type(e).__name__}: {e}") from e
    finally:
        del sys.modules[name]
    return module


def _line(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if error.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""
