"""``sitter drill corrupt-checkpoint``."""

import time
from pathlib import Path
from typing import ClassVar

from sitter.drill.base import Noticed, Planted
from sitter.drill.kill_trainer import KillTrainer
from sitter.drill.scene import Failed, Scene


class CorruptCheckpoint(KillTrainer):
    """Some bytes of the newest good checkpoint are changed on disk, as by a bad sector, and then the training is killed.

    The damage must be recognised before anything is loaded, and the training must go on from the good checkpoint before that one.
    """

    name: ClassVar[str] = "corrupt-checkpoint"
    title: ClassVar[str] = "the newest checkpoint is damaged and the training killed; it goes on from the one before"
    own: ClassVar[bool] = False

    def plant(self, scene: Scene) -> Planted:
        """Two good checkpoints, the newer one damaged in its middle."""
        scene.going()
        first = scene.checkpoint()
        scene.until(lambda s: (s.step or 0) > first + 20, scene.patience(60), "some steps after the checkpoint")
        newest = scene.checkpoint()
        status = scene.until(lambda s: (s.step or 0) > newest + 20, scene.patience(60), "some steps after the checkpoint")
        path = next(Path(c.path) for c in status.checkpoints if c.step == newest)
        spoil(path)
        self._saved, self._file = first, path.name
        planted = self._kill(scene, status)
        return Planted(what=f"16 bytes of {path.name} were changed, and {planted.what}", at=planted.at, step=planted.step)

    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """The damage, before anything is loaded."""
        super().notice(scene, planted)
        again = scene.entry(lambda e: e.kind == "restart" and e.status == "restarting", 60.0, "a restart")
        return Noticed(what=again.detail.partition("passed over: ")[2] or again.detail, at=time.time())

    def check(self, said: str) -> None:
        """It was passed over, by name."""
        super().check(said)
        if "passed over" not in said or self._file.partition(".")[0] not in said:
            raise Failed(f"it was expected to be said that {self._file} is damaged and passed over, found: {said}")


def spoil(path: Path) -> None:
    """Flip 16 bytes in the middle; size and times of a file that a disk has spoiled tell nothing either."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        old = file.read(16)
        file.seek(-len(old), 1)
        file.write(bytes(b ^ 0xFF for b in old))
