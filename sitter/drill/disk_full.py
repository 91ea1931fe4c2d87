"""``sitter drill disk-full``."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from sitter.drill.base import Ended, Fault, Noticed, Planted
from sitter.drill.scene import Failed, NotHeldError, Scene
from sitter.errors import SitterError
from sitter.model import Answered, Status
from sitter.paths import RUNS, register
from sitter.supervise.checkpoint import why_not_whole
from sitter_wire.commands import TakeCheckpoint
from sitter_wire.places import RunDir
from sitter_wire.queries import Act

MIB = 100
"""Of which a checkpoint leaves 64 aside."""
WHILE_FULL = 50


class DiskFull(Fault):
    """The disk of the run directory is full to the last byte, and after a while it is not any more.

    The training must go on; it must be said; a checkpoint must be refused with the reason rather than half written; the earlier ones must
    stay whole; and once there is room again, everything must be written that was recorded meanwhile. Your own disks are left alone: a small
    file system in memory is mounted for it, which takes root.
    """

    name: ClassVar[str] = "disk-full"
    title: ClassVar[str] = "the run's disk is full for a while; the training goes on, and nothing is half written"

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """A small tmpfs, whose run directory is copied here at the end."""
        home, small = Path.cwd(), Path(tempfile.mkdtemp(prefix="sitter-drill-"))
        try:
            words = ["mount", "-t", "tmpfs", "-o", f"size={MIB}m,mode=700", "tmpfs", str(small)]
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
                why = done.stderr.strip().splitlines()[:1] if done.returncode else []
            except OSError as e:
                done, why = None, [str(e)]
            if done is None or done.returncode:
                said = f" ({why[0]})" if why else ""
                raise NotHeldError(f"a small file system to be filled cannot be mounted here{said}; run this drill as root")
            try:
                yield small
            finally:
                self._room(small)
                keep(small, home)
                subprocess.run(["umount", "-l", str(small)], check=False, capture_output=True)
        finally:
            with contextlib.suppress(OSError):
                small.rmdir()

    def plant(self, scene: Scene) -> Planted:
        """After a checkpoint."""
        scene.going()
        self._saved = scene.checkpoint(good=False)
        step = scene.going(5).step
        self._small = next(p for p in scene.run.path.resolve().parents if p.name.startswith("sitter-drill-"))
        at = time.time()
        fill(self._small)
        return Planted(what=f"the disk of the run directory ({MIB} MiB) was filled", at=at, step=step)

    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """It stands in the status."""
        status = scene.until(lambda s: bool(full(s)), 60.0, "a warning that the disk is full")
        return Noticed(what=full(status), at=time.time())

    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """Refused while it lasts, and all well afterwards."""
        refused = self._refused(scene)
        beyond = (planted.step or 0) + WHILE_FULL
        last = scene.until(lambda s: (s.step or 0) > beyond, scene.patience(150), f"step {beyond:,} with a full disk").step or 0
        self._room(self._small)
        status = scene.until(lambda s: not full(s) and (s.step or 0) > last + 20, 60.0, "the end of the warning once there is room")
        for checkpoint in status.checkpoints:
            if checkpoint.step == self._saved and (why := why_not_whole(checkpoint)):
                raise Failed(f"the earlier checkpoint was expected to be whole: {why}")
        if self._saved not in [c.step for c in status.checkpoints]:
            raise Failed(f"the earlier checkpoint of step {self._saved:,} is not there any more")
        missing = scene.gaps((planted.step or 0) - 20)
        if missing:
            raise Failed(f"every step was expected in the history once; not so: {', '.join(map(str, missing[:10]))}")
        again = scene.checkpoint(good=False)
        return Ended(
            did=f"a checkpoint was refused: {refused}",
            how="the training went on; once there was room every step came into the history; the earlier checkpoint"
            f" {self._saved:,} is whole, and {again:,} was written",
            steps_lost=0,
        )  # fmt: skip

    def _refused(self, scene: Scene) -> str:
        try:
            answer: Answered = scene.ask(Act(action=TakeCheckpoint(why="drill")), 45.0)
        except SitterError as e:
            raise Failed(f"a checkpoint was expected to be refused, and nobody answered: {e}") from e
        if answer.status != "rejected":
            raise Failed(f"a checkpoint was expected to be refused, and was {answer.status}: {answer.text}")
        return answer.text

    def _room(self, small: Path) -> None:
        (small / "filler").unlink(missing_ok=True)


def full(status: Status) -> str:
    """The warning; empty where there is none."""
    return next((w for w in status.warnings if "is full" in w), "")


def fill(place: Path) -> Path:
    """To the last byte; with which file."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= 1:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    return filler


def keep(small: Path, home: Path) -> None:
    """The run directories that lie there, for whoever wants to read on."""
    for found in (small / RUNS).glob("*"):
        kept = home / RUNS / found.name
        with contextlib.suppress(OSError):
            shutil.copytree(found, kept, dirs_exist_ok=True)
            register(RunDir(kept))
