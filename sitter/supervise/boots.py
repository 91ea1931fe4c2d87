"""How often ``sitter resume --all`` has started a run in vain: a training that takes its machine down must not do so at every boot.

The law is that of ``--restart`` (attempts.py): three starts in a row that came no further are the last. Further means a step beyond any
that an earlier start reached, or a newer good checkpoint; where the training tells no steps, that it printed for a minute. Who starts it by
hand has looked at it, and the count begins anew.

``boots.json`` in the run directory keeps it over the reboot, so it is on disk before the training is started.
"""

import json
import os
import time

import msgspec

from sitter.model import CheckpointInfo, Struct
from sitter.supervise.attempts import LIVED_S, WITHOUT
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir, small_file

BOOTS = "boots.json"


class Boots(Struct, frozen=True):
    """``starts``: those since it last came further. ``good``: branch and step of the newest good checkpoint then. ``left_alone``: why,
    and ``at`` when, in unix seconds."""

    starts: int = 0
    furthest: int | None = None
    good: tuple[int, int] | None = None
    left_alone: str = ""
    at: float | None = None


def read_boots(run: RunDir) -> Boots:
    """What the file says; nothing where there is none or it is damaged."""
    try:
        return msgspec.convert(json.loads(small_file(run.path / BOOTS)), Boots)
    except (OSError, ValueError, RecursionError, OverflowError):
        return Boots()


def counted(run: RunDir, step: int | None, checkpoints: list[CheckpointInfo]) -> Boots:
    """The same with what the last start has come to. ``step``: the one that the run has reached now."""
    was = read_boots(run)
    good = max(((c.branch, c.step) for c in checkpoints if c.good and c.verified), default=None)
    further = (step is not None and step > (was.furthest or 0)) or (good is not None and good > (was.good or (-1, -1)))
    if further or (step is None and _printed_for_long(run)):
        return Boots(furthest=max(step or 0, was.furthest or 0) or None, good=good)
    if was.starts < WITHOUT or was.left_alone:
        return was
    where = f"past step {was.furthest:,}" if was.furthest else "to a first step"
    why = f"{was.starts} starts in a row by `sitter resume --all` did not get {where}"
    return msgspec.structs.replace(was, left_alone=why, at=time.time())


def write(run: RunDir, boots: Boots) -> None:
    """On disk when it returns. Raises OSError where it cannot be kept: then it must not be started unwatched."""
    temp = run.path / f"{BOOTS}.new"
    with temp.open("wb") as file:
        file.write(msgspec.json.encode(boots) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temp.replace(run.path / BOOTS)
    folder = os.open(run.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def forget(run: RunDir) -> None:
    """It was started by hand."""
    (run.path / BOOTS).unlink(missing_ok=True)


def _printed_for_long(run: RunDir) -> bool:
    process = TrainingProcess.find(run)
    try:
        return process is not None and process.started is not None and run.train_log.stat().st_mtime - process.started >= LIVED_S
    except OSError:
        return False
