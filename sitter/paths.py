"""Finding runs: the per-user registry, ``./sitter-runs``, and which run is meant where none is named."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import platformdirs

from sitter.errors import RunError, UsageError
from sitter.locks import holder
from sitter_wire import rundir
from sitter_wire.places import PlaceError, RunDir

RUNS = "sitter-runs"
MISSED_S = 90 * 86400.0
"""Seconds; a registered run that nobody has seen on any disk for so long is forgotten."""


class FoundRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run directory and what can be told without opening its history."""

    run: RunDir
    info: rundir.RunInfo
    agent_pid: int | None
    daemon_pid: int | None
    parent_pid: int | None = None
    """Of ``sitter run``: there until it has said how the training ended."""

    @property
    def live(self) -> bool:
        """Whether its training lives, also one without an agent yet, or is about to be started again."""
        return self.agent_pid is not None or self.parent_pid is not None


def registry() -> Path:
    """The per-user folder with one small file per run."""
    return Path(platformdirs.user_state_path("sitter")) / "runs"


def register(run: RunDir) -> None:
    """Note that this run exists, so that it is found from any directory. Never raises: it is a convenience."""
    real = str(run.path.resolve())
    try:
        folder = registry()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha256(os.fsencode(real)).hexdigest()[:16]).write_text(real + "\n", encoding="utf-8")
    except OSError:
        return


def runs() -> list[FoundRun]:
    """Every run known here or registered, newest first. Registered ones that were deleted are forgotten."""
    candidates: dict[Path, None] = {}
    here = Path.cwd() / RUNS
    if here.is_dir():
        candidates.update({p.resolve(): None for p in here.iterdir() if _has_run(p)})
    candidates.update({path: None for path, there in _registered() if there})
    found = []
    for path in candidates:
        try:
            found.append(look(RunDir(path)))
        except RunError:
            continue
    return sorted(found, key=lambda f: f.info.created, reverse=True)


def _has_run(path: Path) -> bool:
    """Whether a run can be looked at there: one that may not be entered, as of somebody else, hides none of the others."""
    try:
        return (path / "run.toml").is_file()
    except OSError:
        return False


def unseen() -> list[Path]:
    """Registered runs whose place is not to be seen now, though nobody seems to have deleted them."""
    return sorted(path for path, there in _registered() if not there and not os.path.exists(path.parent))  # noqa: PTH110 — raises nothing


def _registered() -> Iterator[tuple[Path, bool]]:
    """Each run's directory, and whether it is there."""
    for entry in registry().iterdir() if registry().is_dir() else ():
        try:
            path = Path(entry.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError):
            continue
        if not path.is_absolute():
            continue  # empty: it is being written at this moment
        there = False
        try:
            there = (path / "run.toml").is_file()
            if there:
                os.utime(entry)  # when it was seen last
            elif _was_deleted(path) or time.time() - entry.stat().st_mtime > MISSED_S:
                entry.unlink(missing_ok=True)
                continue
        except OSError:
            pass  # a file server that does not answer, a place that cannot be entered: the other runs are there all the same
        yield path, there


def _was_deleted(path: Path) -> bool:
    """Where the nearest folder above it that is there is empty, a disk may be missing, as when `resume --all` comes early at a boot."""
    nearest = next((folder for folder in path.parents if folder.is_dir()), None)
    return nearest is not None and any(nearest.iterdir())


def look(run: RunDir) -> FoundRun:
    """Raises RunError where this is not a run directory, or is from a newer version."""
    try:
        info = rundir.read(run)
    except PlaceError as e:
        raise RunError(str(e)) from e
    parent = None if run.exit_json.exists() else holder(run.parent_lock)
    if run.exit_json.exists():
        parent = None  # it has had its last word meanwhile
    return FoundRun(
        run=run, info=info, agent_pid=holder(run.agent_lock), daemon_pid=holder(run.daemon_lock), parent_pid=parent
    )  # fmt: skip


def find(name: str | None, *, acts: bool) -> FoundRun:
    """The run that is meant: by path, or by name (that of a run in this directory before one elsewhere); without one the only live one,
    else the newest.

    Raises RunError where there is none, UsageError where ``acts`` and several live.
    """
    if name:
        path = Path(name)
        if (path / "run.toml").is_file() or (os.sep in name and path.exists()):
            return look(RunDir(path.resolve()))
        matches = [f for f in runs() if f.info.name == name]
        if not matches and (Path.cwd() / RUNS / name).exists():
            return look(RunDir(Path.cwd() / RUNS / name))  # says why it is not among them
        if not matches:
            known = ", ".join(f.info.name for f in runs()[:8]) or "none"
            raise RunError(f"no run named {name!r}; known runs: {known}; `sitter ls` shows them with their places")
        matches = [f for f in matches if f.run.path.parent == (Path.cwd() / RUNS).resolve()] or matches
        live = [f for f in matches if f.live]
        if acts and len(matches) > 1 and len(live) != 1:
            places = ", ".join(str(f.run.path) for f in matches)
            raise UsageError(f"{len(matches)} runs are named {name!r}: give the path of one with -r ({places})")
        return (live or matches)[0]
    known_runs = runs()
    if not known_runs:
        raise RunError(
            "no run found here or in the registry; start one with `sitter run -- python train.py`, or name its directory with -r"
        )
    live = [f for f in known_runs if f.live]
    if acts and len(live) > 1:
        names = ", ".join(f"{f.info.name} ({f.run.path})" for f in live)
        raise UsageError(f"{len(live)} runs are live, so say which with -r RUN: {names}")
    return (live or known_runs)[0]
