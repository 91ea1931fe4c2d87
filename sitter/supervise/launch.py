"""Starting the training under its small parent."""

import errno
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sitter.errors import LaunchError, TakenError, UsageError
from sitter.model import ExitNow, Struct
from sitter.supervise import parent
from sitter.supervise.attempts import CAP_S, FIRST_S
from sitter.supervise.left_behind import left_behind
from sitter.supervise.not_started import why_not_started
from sitter.supervise.process import TrainingProcess
from sitter.supervise.scope import find_scope
from sitter_wire.places import RunDir

PATIENCE_S = 60.0
"""A disk may be slow, and a machine busy; a parent that has not answered so long after its ``grace_s`` never will."""


class Launched(Struct, frozen=True):
    """A training that was started. ``started``: unix seconds. ``exit`` where it has already ended well.

    ``note``: one sentence for the user, empty where there is nothing to say.
    """

    pid: int
    parent_pid: int
    started: float
    note: str = ""
    exit: ExitNow | None = None


def why_not_startable(command: list[str]) -> str:
    """One sentence where it is plain from the outside that ``command`` cannot be started here; empty otherwise."""
    if not command or shutil.which(command[0]):
        return ""
    there = os.sep in command[0] and Path(command[0]).exists()
    error = PermissionError(errno.EACCES, "") if there else FileNotFoundError(errno.ENOENT, "")
    return why_not_started(command, error)[1]


def launch(
    run: RunDir, command: list[str], *, restart: int = 0, resume: str = "", cwd: str | os.PathLike[str] | None = None,
    grace_s: float = 0.5, pause_s: float = FIRST_S, pause_most_s: float = CAP_S, furthest: int | None = None,
    more: Mapping[str, str] | None = None,
) -> Launched:  # fmt: skip
    """Start ``command`` in ``run``; returns once it runs, and has not failed within ``grace_s`` seconds.

    ``resume``: path of a checkpoint that the agent shall start from (``SITTER_RESUME``). ``cwd``: where it runs (None: here).
    ``restart``: start it again after a crash, so many times at most, ``pause_s`` to ``pause_most_s`` seconds after it (attempts.py);
    ``furthest``: the step that the run had reached before. ``more``: further environment variables. Raises UsageError;
    TakenError; LaunchError, in one sentence, where it cannot be started or fails at once (and then is not started again). exit.json says
    the same.
    """
    if not command:
        raise UsageError("no training command: expected `sitter run -- CMD…`, such as `sitter run -- python train.py`")
    living = TrainingProcess.find(run)
    if living is not None and living.alive():
        hint = f"stop it first: sitter stop -r {run.name}"
        raise TakenError(f"{run.name} already has a living training process ({living.pid}); {hint}")
    if cwd and not Path(cwd).is_dir():
        raise LaunchError(f"the directory {cwd}, where the training is to run, is not there; make it, or start a new run")
    # Isolated and without site-packages: what lies in the working directory or in PYTHONPATH is the training's, not ours.
    options = ["--grace", str(grace_s)]
    if restart:
        options += ["--restart", str(restart), "--pause", str(pause_s), "--pause-most", str(pause_most_s)]
        options += ["--furthest", str(furthest)] if furthest is not None else []
    words = [sys.executable, "-I", "-S", parent.__file__, *options, os.fspath(run.path.resolve()), "--", *command]
    scope = find_scope(f"sitter-{re.sub(r'[^A-Za-z0-9]+', '-', run.name)}-{secrets.token_hex(3)}.scope")
    environment = {k: v for k, v in os.environ.items() if k not in ("SITTER_RUN", "SITTER_RESUME")} | dict(more or {})
    if resume:
        environment["SITTER_RESUME"] = os.path.abspath(resume)  # noqa: PTH100 — resolving would lose a link on purpose
    note = scope.note
    told = _ask([*scope.prefix, *words], environment, cwd, PATIENCE_S + grace_s)
    if "trouble" in told and scope.prefix:
        note = f"systemd-run did not work ({told['trouble']}), so this machine ends the training with your login"
        told = _ask(words, environment, cwd, PATIENCE_S + grace_s)
    if "trouble" in told:
        raise LaunchError(f"the training could not be started: {told['trouble']}; see {run.train_log}")
    if told.get("taken"):
        raise TakenError(str(told["error"]))
    if told.get("error"):
        raise LaunchError(f"{told['error']}; all it said is in {run.train_log}" if "pid" in told else str(told["error"]))
    ended = ExitNow(code=told["code"], signal=told["signal"], time=None) if "code" in told else None
    if ended is not None and ended.signal is not None:
        raise LaunchError(f"the training was ended by signal {ended.signal} at once; all it said is in {run.train_log}")
    if ended is not None and (left := left_behind(run)):
        note = f"{note}; {left}" if note else left
    return Launched(pid=told["pid"], parent_pid=told["parent"], started=told["started"], note=note, exit=ended)


def _ask(words: list[str], environment: dict[str, str], cwd: str | os.PathLike[str] | None, seconds: float) -> dict[str, Any]:
    """Run the process in front, for so long; its line of JSON, or ``{"trouble": sentence}``."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
            env=environment, cwd=cwd or None, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"trouble": f"its parent has not answered for {seconds:.0f} s"}
    except OSError as e:
        return {"trouble": f"{words[0]}: {e.strerror}"}
    try:
        told = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()
        return {"trouble": said[-1] if said else f"its parent ended with code {done.returncode} and said nothing"}
    return told if isinstance(told, dict) and told else {"trouble": "its parent said something else than expected"}
