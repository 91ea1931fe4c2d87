"""Checkpoints: a writer thread that owns its snapshot until the file is whole, and what is kept of them (DESIGN §6)."""

import datetime
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from sitter_agent.checkpoint_files import (
    DamagedError,
    Sidecar,
    check,
    free_name,
    read_sidecar,
    sidecar_of,
    sidecars,
    sweep,
    write_durably,
    write_text,
)
from sitter_agent.held_back import look
from sitter_agent.retention import GOOD_AFTER, room, spare
from sitter_agent.snapshots import Snapshot, size
from sitter_agent.state import Adapter
from sitter_wire.events import CheckpointFailed, CheckpointRemoved, CheckpointWritten, Event, Remark
from sitter_wire.places import RunDir

DISK_SHARE = 0.4
"""Of the space that is free at start, all checkpoints of the run together (DESIGN §6)."""
ASIDE = 64 << 20
"""Bytes that are left free beside what a checkpoint takes."""
MOST_WAITING = 2
"""Checkpoints handed over and not yet written: each keeps a snapshot from being overwritten."""
LOOK_S = 0.1
"""Between two looks, while the last one is waited for, at whether the operator waits no longer."""


@dataclass(slots=True)
class Job:
    """One checkpoint to be written. ``done`` is told on the writer thread: its sidecar, or the sentence why there is none."""

    snapshot: Snapshot
    meta: dict[str, object]
    """What is written beside the captured state, in plain values."""
    line: list[tuple[int, int]]
    """Of branches, as in the sidecar."""
    why: str
    pinned: bool
    full_check: bool
    """All of it is read back, not samples."""
    goal: float | None
    done: list[Callable[[Sidecar | None, str], None]] = field(default_factory=list)


class Vault:
    """The run's checkpoints. ``event`` records; ``release`` is told when a snapshot is no longer needed."""

    def __init__(
        self, run: RunDir, session: str, event: Callable[[Event, int, int], object], release: Callable[[Snapshot], None],
        *, better: Literal["lower", "higher"] = "lower", free: Callable[[Path], int] | None = None,
    ) -> None:  # fmt: skip
        self._run, self._session, self._event, self._release, self._better = run, session, event, release, better
        self._free = free or free_bytes
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.clear_step: Callable[[int, int], int | None] = lambda branch, step: None
        """How many cleared steps followed (branch, step); None where the daemon has not vouched for it."""
        self.keep_line: list[tuple[int, int]] = [(0, 0)]
        self.adapter: Adapter | None = None
        self.good_after = GOOD_AFTER
        self.limit = 0
        try:
            sweep(run.checkpoints)
            self.limit = int(
                DISK_SHARE * (self._free(run.checkpoints) + sum(s.bytes for s in sidecars(run.checkpoints)))
            )
        except OSError:
            self.limit = 0

    def describe(self) -> str:
        """``checkpoints: ≤ 29 GB``."""
        return f"checkpoints: ≤ {size(self.limit)}" if self.limit else "checkpoints: no room"

    # -- writing ---------------------------------------------------------------------------------------------------------

    def write(self, adapter: Adapter, job: Job) -> str | None:
        """Hand a job over; the snapshot must be held. None where it was taken, else the sentence why not."""
        with self._lock:
            if self._waiting >= MOST_WAITING:
                return f"{self._waiting} checkpoints are still being written: wait for them"
            self._waiting += 1
            self._idle.clear()
            self.adapter = adapter
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="sitter-checkpoints", daemon=True)
                self._thread.start()
        self._jobs.put(job)
        return None

    def wait(self, seconds: float) -> bool:
        """Until everything handed over is written; False where it took longer."""
        return self._idle.wait(seconds)

    def close(self, seconds: float) -> bool:
        """Write what was handed over, then end the thread."""
        until = time.monotonic() + seconds
        while not (done := self.wait(LOOK_S)) and time.monotonic() < until:
            look()
        if self._thread is not None and done:
            self._jobs.put(None)
            self._thread.join(1.0)
        return done

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                self._one(job)
            finally:
                with self._lock:
                    self._waiting -= 1
                    if not self._waiting:
                        self._idle.set()

    def _one(self, job: Job) -> None:
        s = job.snapshot
        side, why, written = None, "", False
        try:
            side = self._there(job)
            if side is None:
                side, written = self._write(job), True
                s.file = side.file
        except Exception as e:  # noqa: BLE001 — the user's own save, the disk: all end in one sentence
            why = _sentence(e, self._run.checkpoints)
        finally:
            self._release(s)
        try:
            if side is None:
                self._event(CheckpointFailed(branch=s.branch, step=s.step, why=why), s.step, s.branch)
            elif written:
                self._event(self._written(side), s.step, s.branch)
            for tell in job.done:
                tell(side, why)
            if side is not None and written:
                self._replaced(side)
                self._retain()
        except Exception as e:  # noqa: BLE001 — a writer thread that dies would take all later checkpoints with it
            text = f"the checkpoints could not be tidied: {_sentence(e, self._run.checkpoints)}"
            self._event(Remark(text=text, level="warning"), s.step, s.branch)

    def _there(self, job: Job) -> Sidecar | None:
        """The checkpoint that holds this very state already: two who ask at one step are told of one file. Written once more, it would take
        the place of the one that the first of them was told of, which would be gone as soon as it was said to be there. None: there is
        none. A cleared one is another matter: nobody asked for that moment, and that it is cleared must stand in its sidecar."""
        s = job.snapshot
        if not s.file or s.cleared or job.pinned:
            return None
        path = self._run.checkpoints / s.file
        try:
            side = read_sidecar(path)
            if job.full_check or path.stat().st_size != side.bytes:
                check(path, side)
        except (DamagedError, OSError):
            return None
        return side if side.goal == job.goal else None

    def _write(self, job: Job) -> Sidecar:
        adapter, s = self.adapter, job.snapshot
        assert adapter is not None
        folder = self._run.checkpoints
        folder.mkdir(exist_ok=True)
        path = free_name(folder, s.step, s.branch, suffix_of(adapter))
        self._make_room(s.nbytes, s.step)
        began = time.monotonic()

        def side_of(sha: str, nbytes: int, verified: bool) -> Sidecar:
            return Sidecar(
                file=path.name, sha256=sha, bytes=nbytes, step=s.step, branch=s.branch, adapter=adapter.name, session=self._session,
                time=datetime.datetime.now().astimezone().isoformat(timespec="seconds"), cleared=s.cleared, verified=verified,
                pinned=job.pinned, why=job.why, goal=job.goal, seconds=time.monotonic() - began, line=job.line,
            )  # fmt: skip

        try:
            write_durably(
                path, lambda f: adapter.save(s.captured, f, job.meta), full_check=job.full_check,
                first=lambda *found: write_text(sidecar_of(path), msgspec.json.encode(side_of(*found))),
            )  # fmt: skip
        except BaseException:  # an interrupt, too, leaves no sidecar of a file that is not there; it is raised again
            sidecar_of(path).unlink(missing_ok=True)
            raise
        return read_sidecar(path)

    def _make_room(self, need: int, step: int) -> None:
        """Space is checked first; what retention could spare goes, where that suffices. Raises OSError where there is too little."""
        folder = self._run.checkpoints
        free = self._free(folder)
        lacking = need + ASIDE - free
        if lacking <= 0:
            return
        gone = room(self.all(), self._session, self.keep_line, self.clear_step, self._better, lacking, self.good_after)
        for side in gone:
            self._remove(side, f"the disk had no room for the checkpoint of step {step}")
        free = self._free(folder)
        if free < need + ASIDE:
            raise OSError(
                f"it needs {size(need)} and {size(ASIDE)} aside, {size(free)} are free in {folder}: make room"
            )

    def _written(self, side: Sidecar) -> CheckpointWritten:
        return CheckpointWritten(
            branch=side.branch, step=side.step, path=f"{self._run.checkpoints.name}/{side.file}", bytes=side.bytes,
            sha256=side.sha256, verified=side.verified, cleared=side.cleared, pinned=side.pinned, seconds=side.seconds, why=side.why,
        )  # fmt: skip

    # -- keeping ---------------------------------------------------------------------------------------------------------

    def _replaced(self, new: Sidecar) -> None:
        for old in self.all():
            if (old.step, old.branch) == (new.step, new.branch) and old.file != new.file and not old.pinned:
                self._remove(old, f"written once more as {new.file}")

    def _retain(self) -> None:
        have = sidecars(self._run.checkpoints)
        for side, why in spare(have, self._session, self.keep_line, self.clear_step, self._better, self.limit, self.good_after):
            self._remove(side, why)

    def _remove(self, side: Sidecar, why: str) -> None:
        path = self._run.checkpoints / side.file
        path.unlink(missing_ok=True)  # first: a sidecar without a file is known for what it is
        sidecar_of(path).unlink(missing_ok=True)
        self._event(CheckpointRemoved(path=f"{self._run.checkpoints.name}/{side.file}", why=why), side.step, side.branch)

    # -- finding ---------------------------------------------------------------------------------------------------------

    def all(self) -> list[Sidecar]:
        """What is there, oldest step first."""
        return sidecars(self._run.checkpoints)

    def load(self, adapter: Adapter, side: Sidecar) -> tuple[object, dict[str, object]]:
        """Check the whole file, then read it. Raises DamagedError."""
        path = self._run.checkpoints / side.file
        return load(adapter, path, side)


def load(adapter: Adapter, path: Path, side: Sidecar | None = None) -> tuple[object, dict[str, object]]:
    """A capture and its meta from a file that was checked whole. Raises DamagedError."""
    side = side or read_sidecar(path)
    check(path, side)
    if side.adapter and side.adapter != adapter.name:
        raise DamagedError(
            f"{path.name} holds a {side.adapter} state, this training is {adapter.name}: use the script that wrote it"
        )
    try:
        with path.open("rb") as file:
            return adapter.load(file)
    except (OSError, ValueError, KeyError, EOFError) as e:
        raise DamagedError(f"{path} cannot be read: {e}; use another checkpoint") from e


def suffix_of(adapter: Adapter) -> str:
    """``.pt`` for torch, ``.npz`` else."""
    return str(getattr(adapter, "suffix", ".pt" if adapter.name == "torch" else ".npz"))


def free_bytes(folder: Path) -> int:
    """Free for this user on the file system of ``folder``."""
    found = os.statvfs(folder if folder.exists() else folder.parent)
    return found.f_bavail * found.f_frsize


def _sentence(e: Exception, folder: Path) -> str:
    if isinstance(e, OSError) and e.strerror:
        return f"{folder}: {e.strerror}"
    return str(e) or type(e).__name__
