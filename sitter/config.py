"""``sitter.toml``: the rules and settings of one run, typed. Every section may be left out, and so may the file.

Example::

    mode = "guard"

    [rules.gpu_hot]
    mode = "act"
    delay = "60s"
    limit = "3 per day"
    celsius = 88            # a parameter of the rule

    [notify.phone]
    kind = "ntfy"
    url = "https://ntfy.sh/my-topic"
    events = ["crashed", "gave_up"]
"""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from sitter.clock import duration
from sitter.errors import ConfigError, Mistakes
from sitter.model import Mode, Preset
from sitter_wire.places import small_file

Param = float | int | str | bool | list[str]


class RuleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[rules.NAME]``: how far a rule may go, and its own parameters. None = the rule's default."""

    mode: Mode | None = None
    delay: float | None = None
    """Seconds in which an act can be vetoed."""
    limit: str | None = None
    """``3 per hour``, ``3 per day``, or empty for none."""
    params: dict[str, Param] = {}


class NotifierConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[notify.NAME]``: one way to tell somebody."""

    name: str
    kind: str
    url: str = ""
    command: str = ""
    events: list[str] | None = None
    """None = the default events."""


class CheckpointConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[checkpoints]``."""

    healthy_steps: int = 200
    """Steps without suspicion after which a checkpoint is called good."""
    after: str = ""
    """A shell command for every verified checkpoint; ``{path}``, ``{name}``, ``{step}``, ``{branch}``, ``{run}``, ``{directory}``,
    ``{bytes}`` and ``{sha256}`` are filled in, quoted."""
    after_timeout: float = 3600.0
    """Seconds after which it is ended."""


class RestartConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[restart]``: of ``sitter run --restart N``."""

    pause: float = 5.0
    """Seconds before a restart; doubled for every attempt that came no further."""
    pause_most: float = 300.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All of sitter.toml."""

    mode: Preset = "guard"
    rules: dict[str, RuleConfig] = {}
    rule_files: list[str] = []
    """Python files with rules; relative to the run directory, or to where the training runs."""
    notify: list[NotifierConfig] = []
    checkpoints: CheckpointConfig = CheckpointConfig()
    restart: RestartConfig = RestartConfig()
    lines: dict[str, int] = {}
    """Where each name first stands in the text, with its tables before it: ``rules.gpu_hot.celsius`` → 7. For later errors."""


TOP_LEVEL = ("mode", "rules", "rule_files", "notify", "checkpoints", "restart")
RULE_KEYS = ("mode", "delay", "limit")
NOTIFY_KEYS = ("kind", "url", "command", "events")


def load(path: Path) -> Config:
    """The file's settings; defaults where it is not there. Raises ConfigError with file, place and the nearest right name."""
    try:
        text = small_file(path).decode("utf-8-sig")
    except FileNotFoundError:
        return Config()
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path} is not UTF-8 text ({e.reason} at byte {e.start}); save it as that") from e
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e}; mend its permissions, or move it away to use the defaults") from e
    return parse(text, str(path))


def parse(text: str, where: str, mistakes: Mistakes | None = None) -> Config:
    """Settings from TOML text; ``where`` names it in errors. Raises ConfigError: the first of all that is wrong. With ``mistakes`` all of
    it is noted there, and what is right comes back; then it raises only where the text is no TOML."""
    text = text.removeprefix("\ufeff")  # as some editors begin every file
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as e:  # not only TOMLDecodeError: a number of 5,000 digits, brackets without end
        quotes = "" if _row(text, e).count('"') < 4 else ": a text with quotes in it stands between ' and '"
        raise ConfigError(f"{where} is not TOML: {e}; mend that line{quotes}, or move the file away to use the defaults") from e
    noted = Mistakes() if mistakes is None else mistakes
    config = _config(raw, where, _lines(text), noted)
    if mistakes is None:
        noted.raise_first()
    return config


def _config(raw: dict[str, Any], where: str, lines: dict[str, int], noted: Mistakes) -> Config:
    misplaced = [
        name for name, section in raw.items()
        if name not in TOP_LEVEL and isinstance(section, dict) and not section.keys().isdisjoint(("when", "every", "at", "do"))
    ]  # fmt: skip
    for name in misplaced:
        noted.note(ConfigError(f"{where}{_line_of(name, lines)}: [{name}] is a rule: expected [rules.{name}]"))
    _known({name: section for name, section in raw.items() if name not in misplaced}, TOP_LEVEL, where, lines, noted)
    mode = raw.get("mode", "guard")
    if mode not in get_args(Preset):
        noted.note(_none_of("mode", mode, get_args(Preset), f"{where}{_line_of('mode', lines)}"))
        mode = "guard"
    files = raw.get("rule_files", [])
    if not isinstance(files, list) or not all(isinstance(name, str) and name for name in files):
        noted.note(ConfigError(f"{where}: rule_files = {files!r}, expected a list of names of Python files"))
        files = []
    rules, notify = {}, []
    for name, section in _table(raw, "rules", where, noted).items():
        with noted:
            rules[name] = _rule(name, section, where, lines, noted)
    for name, section in _table(raw, "notify", where, noted).items():
        with noted:
            notify.append(_notifier(name, section, f"{where}: [notify.{name}]", lines, noted))
    checkpoints, restart = CheckpointConfig(), RestartConfig()
    with noted:
        checkpoints = _checkpoints(_table(raw, "checkpoints", where, noted), f"{where}: [checkpoints]", lines, noted)
    with noted:
        place = f"{where}: [restart]"
        pauses = _known(_table(raw, "restart", where, noted), RestartConfig.__struct_fields__, place, lines, noted, "restart")
        restart = RestartConfig(**{name: seconds(value, f"{place} {name}") for name, value in pauses.items()})
    return Config(mode=mode, rules=rules, rule_files=files, notify=notify, checkpoints=checkpoints, restart=restart, lines=lines)


def _checkpoints(section: dict[str, Any], where: str, lines: dict[str, int], noted: Mistakes) -> CheckpointConfig:
    section = _known(section, CheckpointConfig.__struct_fields__, where, lines, noted, "checkpoints")
    if "after_timeout" in section:
        section["after_timeout"] = seconds(section["after_timeout"], f"{where} after_timeout")
    made: CheckpointConfig = _typed(section, CheckpointConfig, where, lines, "checkpoints")
    return made


def seconds(value: object, where: str) -> float:
    """``60``, ``"60s"``, ``"2h"`` as seconds. Raises ConfigError."""
    try:
        got = duration(value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        got = -1.0
    if not 0 <= got < 1e9:
        raise ConfigError(f"{where} = {value!r}, expected a length of time such as 60s, 5m or 2h")
    return got


def unknown(
    name: str, known: "list[str] | tuple[str, ...]", where: str, noun: str = "setting", line: int | None = None
) -> ConfigError:
    """The error for a name that is not there, with its line and the nearest right one."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    at = f" (line {line})" if line is not None else ""
    return ConfigError(f"{where} has no {noun} {name!r}{at}; {hint}")


def parse_limit(text: str, where: str) -> tuple[int, float] | None:
    """``3 per hour`` as (3, 3600.0 seconds), rolling; None for no limit. Raises ConfigError."""
    if not text.strip():
        return None
    words = text.split()
    spans = {"minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0}
    if len(words) == 3 and words[0].isdigit() and words[1] == "per" and words[2] in spans:
        return int(words[0]), spans[words[2]]
    raise ConfigError(f"{where} = {text!r}, expected a number per minute, hour, day or week, such as '3 per day'")


def _row(text: str, error: Exception) -> str:
    """The line of which the TOML reader speaks."""
    found = re.search(r"at line (\d+)", str(error))
    rows = text.splitlines()
    return rows[int(found[1]) - 1] if found and int(found[1]) <= len(rows) else ""


def _table(raw: dict[str, Any], key: str, where: str, noted: Mistakes) -> dict[str, Any]:
    section = raw.get(key, {})
    if isinstance(section, dict):
        return section
    noted.note(ConfigError(f"{where}: {key} is a {type(section).__name__}, expected a table [{key}]"))
    return {}


_HEADER = re.compile(r"\s*\[{1,2}([^\]=]+)\]{1,2}\s*(?:#.*)?$")
_NAME = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")


def _lines(text: str) -> dict[str, int]:
    """See ``Config.lines``. What stands in a text of several lines may be taken for names; of the same name the first line counts."""
    found: dict[str, int] = {}
    table: list[str] = []
    for number, row in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(row), _KEY.match(row)
        if header:
            table = names = _parts(header[1])
        elif key:
            names = [*table, *_parts(key[1])]
        else:
            continue
        for end in range(1, len(names) + 1):
            found.setdefault(".".join(names[:end]), number)
    return found


def _parts(dotted: str) -> list[str]:
    """``a."b c".d`` as its names."""
    return [part.strip().strip("\"'") for part in re.findall(r"""\"[^"]*\"|'[^']*'|[^.]+""", dotted) if part.strip()]


def _known(
    section: dict[str, Any], known: tuple[str, ...], where: str, lines: dict[str, int], noted: Mistakes, table: str = ""
) -> dict[str, Any]:
    """What of it is there; the rest is noted."""
    for name in section:
        if name not in known:
            noted.note(unknown(name, known, where, line=lines.get(f"{table}.{name}" if table else name)))
    return {name: value for name, value in section.items() if name in known}


def _rule(name: str, section: Any, file: str, lines: dict[str, int], noted: Mistakes) -> RuleConfig:
    """Raises ConfigError where it is no table; what is wrong in it is noted."""
    where = f"{file}: [rules.{name}]"
    if not isinstance(section, dict):
        raise ConfigError(f"{where} is a {type(section).__name__}, expected a table")

    def at(key: str) -> str:
        return f"{where}{_line_of(f'rules.{name}.{key}', lines)}"

    mode, limit, delay = section.get("mode"), None, None
    if mode is not None and mode not in get_args(Mode):
        noted.note(_none_of("mode", mode, get_args(Mode), at("mode")))
        mode = None
    if "limit" in section:
        with noted:
            parse_limit(str(section["limit"]), f"{at('limit')}: limit")
            limit = str(section["limit"])
    if "delay" in section:
        with noted:
            delay = seconds(section["delay"], f"{at('delay')}: delay")
    params = {}
    for key, value in section.items():
        if key in RULE_KEYS:
            continue
        if isinstance(value, float | int | str | bool) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            params[key] = value
        else:
            noted.note(ConfigError(f"{at(key)}: {key} is a {type(value).__name__}, expected a number, a text or a list of texts"))
    return RuleConfig(mode=mode, delay=delay, limit=limit, params=params)


def _notifier(name: str, section: Any, where: str, lines: dict[str, int], noted: Mistakes) -> NotifierConfig:
    """Raises ConfigError where nothing can be made of it."""
    if not isinstance(section, dict):
        raise ConfigError(f"{where} is a {type(section).__name__}, expected a table")
    section = _known(section, NOTIFY_KEYS, where, lines, noted, f"notify.{name}")
    if "kind" not in section:
        raise ConfigError(f"{where} has no kind; expected one of webhook, ntfy, slack, discord, command")
    made: NotifierConfig = _typed({**section, "name": name}, NotifierConfig, where, lines, f"notify.{name}")
    return made


def _typed(section: dict[str, Any], kind: type[Any], where: str, lines: dict[str, int], table: str) -> Any:
    try:
        return msgspec.convert(section, kind)
    except msgspec.ValidationError as e:
        raise mistyped(e, section, kind, where, lines, table) from e


_PLACE = re.compile(r" - at `\$\.([\w-]+)[^`]*`$")
_TYPES = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list", "null": "nothing"}


def place_of(error: msgspec.ValidationError) -> str:
    """The name whose value was wrong; empty where it is of no one name."""
    found = _PLACE.search(str(error))
    return found[1] if found else ""


def mistyped(
    error: msgspec.ValidationError, section: dict[str, Any], kind: type[msgspec.Struct], where: str, lines: dict[str, int], table: str
) -> ConfigError:
    """The error for a value of the wrong type, or one that is not among those that there are; ``kind``: what the section was to become."""
    name = place_of(error)
    if not name:  # of a check of its own: a sentence already, that begins with what is wrong
        of = str(error).partition(" = ")[0]
        return ConfigError(f"{where}{_line_of(f'{table}.{of}', lines)}: {error}")
    at, value = f"{where}{_line_of(f'{table}.{name}', lines)}", section.get(name)
    types = get_type_hints(kind)[dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))[name]]
    if choices := tuple(c for c in get_args(types) if isinstance(c, str)):
        return _none_of(name, value, choices, at)
    expected = str(error).partition("`")[2].partition("`")[0].split(" | ")
    return ConfigError(f"{at}: {name} = {value!r}, expected {' or '.join(_TYPES.get(t, t) for t in expected if t != 'null')}")


def _none_of(name: str, value: object, choices: tuple[str, ...], where: str) -> ConfigError:
    near = difflib.get_close_matches(str(value).lower(), choices, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"{where}: {name} = {value!r}, expected one of {', '.join(choices)}{hint}")


def _line_of(name: str, lines: dict[str, int]) -> str:
    return f" (line {lines[name]})" if name in lines else ""
