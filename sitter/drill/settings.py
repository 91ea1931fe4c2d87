"""The settings of a drill: the user's own sitter.toml, with what one fault needs put over it, so that nobody waits for half an hour."""

import json
import tomllib
from typing import Any

from sitter import config
from sitter_wire.places import RunDir

Settings = dict[str, dict[str, Any]]
"""Section → name → value; a rule's section is ``rules.NAME``."""


def put_over(run: RunDir, settings: Settings) -> list[str]:
    """Write them into the run's sitter.toml; returns each in words. Raises ConfigError where the file is wrong.

    A command of the user's for every checkpoint is left out: it most often copies them to where the real ones lie.
    """
    config.load(run.sitter_toml)
    whole: dict[str, Any] = tomllib.loads(run.sitter_toml.read_text(encoding="utf-8")) if run.sitter_toml.exists() else {}
    said = []
    for section, values in settings.items():
        table = whole
        for part in section.split("."):
            table = table.setdefault(part, {})
        table.update(values)
        said += [f"[{section}] {name} = {_toml(value)}" for name, value in values.items()]
    if whole.get("checkpoints", {}).pop("after", ""):
        said.append('[checkpoints] after = ""')
    if said:
        run.sitter_toml.write_text(_text(whole, ""), encoding="utf-8")
        config.load(run.sitter_toml)
    return said


def _text(table: dict[str, Any], path: str) -> str:
    plain = [f"{_key(k)} = {_toml(v)}\n" for k, v in table.items() if not isinstance(v, dict)]
    head = f"\n[{path}]\n" if path else ""
    inner = [_text(v, f"{path}.{_key(k)}" if path else _key(k)) for k, v in table.items() if isinstance(v, dict)]
    return head + "".join(plain) + "".join(inner)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    # A JSON string is a TOML basic string, but for DEL, which JSON leaves bare.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
