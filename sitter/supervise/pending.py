"""A restart that a living parent is preparing, and the attempts that came before it, as attempts.json says."""

import json
import os
from typing import Any

import msgspec

from sitter.locks import holder
from sitter.model import RestartNow, Struct
from sitter.supervise.attempts import ATTEMPTS
from sitter.supervise.parent import CALL_OFF
from sitter_wire.places import RunDir, small_file

CALLED_OFF = "the restart is called off; `sitter resume` starts it when you want"


class Attempt(Struct, frozen=True):
    """One start of the training. ``log``: where its output lies in train.log. ``then``: what followed, empty while nothing has.

    ``pid``: 0 where it could not be started. ``step`` is the last one it told; ``oom_kills`` how many processes of its cgroup the kernel
    killed for memory meanwhile.
    """

    pid: int
    started: float
    ended: float | None = None
    code: int | None = None
    signal: int | None = None
    error: str = ""
    log: tuple[int, int] = (0, 0)
    oom_kills: int | None = None
    step: int | None = None
    resume: str = ""
    then: str = ""


class Told(Struct, frozen=True):
    """attempts.json."""

    of: int = 0
    restarts: int = 0
    attempts: tuple[Attempt, ...] = ()
    next: dict[str, Any] | None = None
    given_up: str = ""


def read_attempts(run: RunDir) -> Told:
    """What the file says; nothing where there is none or it is damaged."""
    try:
        return msgspec.convert(json.loads(small_file(run.path / ATTEMPTS)), Told)
    except (OSError, ValueError, RecursionError, OverflowError):
        return Told()


def pending(run: RunDir) -> RestartNow | None:
    """The restart that the run's parent is preparing now; None where there is none, or that parent is gone."""
    told = read_attempts(run)
    if told.next is None or parent_pid(run) is None:
        return None
    try:
        return msgspec.convert({"of": told.of, **told.next}, RestartNow)
    except msgspec.ValidationError:
        return None


def parent_pid(run: RunDir) -> int | None:
    """The living parent of this run's training."""
    return holder(run.parent_lock)


def undecided(run: RunDir) -> bool:
    """Where no training lives: whether its parent has yet to say how it ended, or to start it again. Its last word is exit.json."""
    return not run.exit_json.exists() and parent_pid(run) is not None and not run.exit_json.exists()


def call_off(run: RunDir) -> bool:
    """Tell the parent that the operator wants no other start; False where there is no parent.

    It obeys where nothing lives, and takes back what it is just starting. Once a training lives this does nothing: so look again, until
    ``undecided`` is over or there is one that can be stopped itself.
    """
    pid = parent_pid(run)
    if pid is None or pid <= 1:
        return False
    try:
        os.kill(pid, CALL_OFF)
    except OSError:
        return False
    return True
