"""``sitter drill kill-trainer``."""

import os
import signal
import time
from typing import ClassVar

from sitter.drill.base import Ended, Fault, Noticed, Planted
from sitter.drill.scene import Failed, Scene
from sitter.drill.settings import Settings
from sitter.model import Status
from sitter.supervise.pending import read_attempts

SOON: Settings = {"restart": {"pause": 1.0}, "checkpoints": {"healthy_steps": 20}}


class KillTrainer(Fault):
    """The training process is killed (SIGKILL), as by the kernel's out-of-memory killer.

    It must be said why it died, started again by itself from its newest good checkpoint, and come past the step at which it was killed.
    """

    name: ClassVar[str] = "kill-trainer"
    title: ClassVar[str] = "the training is killed; it is started again from its newest good checkpoint"
    own: ClassVar[bool] = True
    settings: ClassVar[Settings] = SOON
    restart: ClassVar[int] = 1

    def plant(self, scene: Scene) -> Planted:
        """Some steps after a checkpoint was called good."""
        scene.going()
        self._saved = scene.checkpoint()
        status = scene.until(lambda s: (s.step or 0) > self._saved + 20, scene.patience(60), "some steps after the checkpoint")
        return self._kill(scene, status)

    def _kill(self, scene: Scene, status: Status) -> Planted:
        assert status.agent is not None
        self._pid = status.agent.pid
        scene.may_end = True
        at = time.time()
        os.kill(self._pid, signal.SIGKILL)
        return Planted(what=f"the training process {self._pid} was killed", at=at, step=status.step)

    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """The logbook says that it died, and of what."""
        died = scene.entry(
            lambda e: e.status == "crashed" and e.time >= planted.at - 1.0 and "SIGKILL" in e.detail, 60.0,
            "a line in the logbook that says how the training died",
        )  # fmt: skip
        return Noticed(what=died.detail, at=time.time())

    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """A new process beyond the old one's last step."""
        attempt = next(iter(read_attempts(scene.run).attempts), None)
        killed = (attempt.step if attempt is not None else None) or planted.step or 0
        again = scene.entry(lambda e: e.kind == "restart" and e.status == "restarting", 60.0, "a restart")
        self.check(again.detail)
        scene.until(lambda s: s.agent is not None and s.agent.pid != self._pid and s.state == "running", 120.0, "a new training process")
        scene.may_end = False
        status = scene.until(lambda s: (s.step or 0) > killed, scene.patience(3 * (killed - self._saved)), f"a step beyond {killed:,}")
        lost = max(0, killed + 1 - self._saved)
        return Ended(did=again.detail, how=f"killed at step {killed:,}, now at step {status.step:,} of a new process", steps_lost=lost)

    def check(self, said: str) -> None:
        """Of what is said about the restart."""
        expected = f"from step {self._saved:,} (good)"
        if expected not in said:
            raise Failed(f"a restart {expected} was expected, found: {said}")
