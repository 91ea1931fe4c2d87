"""A new run directory, and what run.toml says. Both sides make runs: ``sitter run`` and a plain script that calls ``start``."""

import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec

from sitter_wire.local import settle
from sitter_wire.places import PlaceError, RunDir, small_file

FORMAT = 1
"""Of the run directory; raised when an older version could no longer read it."""
MODES = ("watch", "guard", "act")


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """run.toml. ``sockets`` is the run's folder in the runtime directory; whoever comes second uses what is recorded.

    ``supervised``: a small parent writes exit.json. ``mode``: the preset asked for at the start, empty for none. ``then``: a command for
    when the run is finished or given up. ``restart``: how often it may be started again after a crash. ``cwd_from_run``: the way from the
    run directory to ``cwd``, for when both were copied elsewhere. ``elsewhere``: the sentence that says where recorder and history lie,
    empty where they lie here.
    """

    name: str
    created: str
    format: int = FORMAT
    command: list[str] = []
    cwd: str = ""
    git_commit: str = ""
    host: str = ""
    python: str = ""
    sitter: str = ""
    sockets: str = ""
    supervised: bool = False
    mode: str = ""
    then: str = ""
    restart: int = 0
    cwd_from_run: str = ""
    elsewhere: str = ""


def default_name(script: str) -> str:
    """``1120-char-lm``: month, day and the script's stem, in letters that need no quoting."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(script or "run").stem).strip("-").lower() or "run"
    now = datetime.datetime.now().astimezone()
    return f"{now:%m%d}-{stem}"


def create(
    root: Path,
    name: str,
    *,
    command: list[str],
    supervised: bool,
    sockets: str,
    version: str,
    mode: str = "",
    then: str = "",
    restart: int = 0,
    rules: Path | None = None,
) -> RunDir:
    """Make ``root/name`` (``name-2``, ``-3``… where it is taken) with its run.toml, and a copy of ``rules`` (else of ``./sitter.toml``
    where there is one) as its sitter.toml. Raises PlaceError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise PlaceError(
            f"run name {name!r}: expected letters, digits, dot, dash, underscore, at most 64; choose another"
        )
    for i in range(1, 1000):
        run = RunDir(root / (name if i == 1 else f"{name}-{i}"))
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as e:
            raise PlaceError(
                f"cannot make the run directory {run.path}: {e.strerror}; run from a place that can be written"
            ) from e
        break
    else:
        raise PlaceError(f"a thousand runs are named {name} in {root}: choose another name")
    try:
        elsewhere = settle(run)
        for d in (run.recorder, run.checkpoints, run.reports):
            d.mkdir(exist_ok=True)
        write(
            run,
            RunInfo(
                name=run.name,
                created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
                command=command,
                cwd=str(Path.cwd()),
                git_commit=_git_commit(),
                host=platform.node(),
                python=sys.executable,
                sitter=version,
                sockets=sockets,
                supervised=supervised,
                mode=mode or _mode_asked(),
                then=then,
                restart=restart,
                elsewhere=elsewhere,
                cwd_from_run=os.path.relpath(Path.cwd(), run.path.resolve()),
            ),
        )
        settings = rules or Path("sitter.toml")
        if settings.is_file():
            shutil.copyfile(settings, run.sitter_toml)
            _copy_rule_files(settings, run)
    except OSError as e:
        shutil.rmtree(run.path, ignore_errors=True)  # half a run directory would be in everybody's way
        if isinstance(e, PlaceError):
            raise
        raise PlaceError(
            f"cannot make the run directory {run.path}: {e.strerror}; make room, or run from a place that can be written"
        ) from e
    return run


def _copy_rule_files(settings: Path, run: RunDir) -> None:
    """The Python files that the settings name, so that the run keeps the rules it began with. What is wrong with them is said by whoever
    runs them."""
    try:
        named = tomllib.loads(settings.read_text(encoding="utf-8")).get("rule_files", [])
    except (ValueError, RecursionError):
        return
    for name in named if isinstance(named, list) else []:
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            continue
        source, place = next((p for p in (settings.parent / name, Path(name)) if p.is_file()), None), run.path / name
        if source is not None and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)


def with_sockets(info: RunInfo, sockets: str) -> RunInfo:
    """The same, with the sockets' directory recorded."""
    return msgspec.structs.replace(info, sockets=sockets)


def write(run: RunDir, info: RunInfo) -> None:
    """run.toml by temp file and rename. Every value is a string, an integer, a boolean or a list of strings."""
    lines = [f"{key} = {_toml(value)}" for key, value in msgspec.structs.asdict(info).items()]
    tmp = run.run_toml.with_suffix(f".tmp{os.getpid()}")
    try:
        tmp.write_text("\n".join(lines) + "\n", encoding="utf-8")
        tmp.replace(run.run_toml)
    except OSError:
        tmp.unlink(missing_ok=True)
        raise


def read(run: RunDir) -> RunInfo:
    """Raises PlaceError where this is no run directory, is damaged, or comes from a newer version."""
    try:
        raw = tomllib.loads(small_file(run.run_toml).decode())
    except (FileNotFoundError, NotADirectoryError):
        raise PlaceError(f"{run.path} is not a run directory: it has no run.toml; `sitter ls` shows the runs") from None
    except (OSError, ValueError, RecursionError) as e:  # ValueError: no TOML, no UTF-8, a number of 5,000 digits
        raise PlaceError(f"cannot read {run.run_toml}: {e}; restore it, or start a new run") from e
    found = raw.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise PlaceError(
            f"{run.path} was written by a newer sitter (format {found}, this one reads {FORMAT}): upgrade sitter"
        )
    try:
        info = msgspec.convert(raw, RunInfo)
    except (msgspec.ValidationError, RecursionError, OverflowError) as e:
        raise PlaceError(f"{run.run_toml} does not say what a run needs: {e}; restore it, or start a new run") from e
    texts = [value for value in msgspec.structs.astuple(info) if isinstance(value, str)]
    if any("\0" in text for text in [*texts, *info.command]):  # no path and no word of a command can hold one
        raise PlaceError(f"{run.run_toml} holds a zero byte, which no path or command has; restore it, or start a new run")
    return info


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    # A JSON string is a TOML basic string, but for DEL, which JSON leaves bare.
    return json.dumps(str(value).encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


def _mode_asked() -> str:
    """$SITTER_MODE belongs to the run: a daemon that is started later, from a shell without it, must not do what was not allowed."""
    asked = os.environ.get("SITTER_MODE", "")
    return asked if asked in MODES else ""  # what is none is told by whoever reads it


def _git_commit() -> str:
    if shutil.which("git") is None:
        return ""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=2,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
