"""``sitter drill kill-daemon``."""

import os
import signal
import time
from typing import ClassVar

from sitter.drill.base import Ended, Fault, Noticed, Planted
from sitter.drill.scene import Failed, Scene

BEYOND = 50


class KillDaemon(Fault):
    """The daemon is killed (SIGKILL). The training must not even notice.

    The agent must start another one by itself, and every step that was made meanwhile must be in the history, once.
    """

    name: ClassVar[str] = "kill-daemon"
    title: ClassVar[str] = "the daemon is killed; another one is started, and no step is missing"
    own: ClassVar[bool] = True

    def plant(self, scene: Scene) -> Planted:
        """In full swing."""
        status = scene.going()
        assert status.daemon is not None
        assert status.agent is not None
        self._training, self._daemon = status.agent.pid, status.daemon.pid
        at = time.time()
        os.kill(self._daemon, signal.SIGKILL)
        return Planted(what=f"the daemon {self._daemon} was killed", at=at, step=status.step)

    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """Another daemon answers."""
        status = scene.until(
            lambda s: s.daemon is not None and s.daemon.pid != self._daemon and s.agent is not None, 60.0, "another daemon"
        )
        assert status.daemon is not None
        at = time.time()
        said = scene.entry(lambda e: e.time >= planted.at and "the daemon was gone" in e.detail, 60.0, "a word about it in the logbook")
        return Noticed(what=f"{said.detail}; it is process {status.daemon.pid}", at=at)

    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """The same training, every step of it."""
        beyond = (planted.step or 0) + BEYOND
        status = scene.until(lambda s: (s.step or 0) > beyond and s.state == "running", scene.patience(150), f"step {beyond:,}")
        if status.agent is None or status.agent.pid != self._training:
            raise Failed(f"the training process {self._training} was expected to go on, found {status.agent and status.agent.pid}")
        missing = scene.gaps((planted.step or 0) - 20)
        if missing:
            raise Failed(f"every step was expected in the history once; not so: {', '.join(map(str, missing[:10]))}")
        return Ended(
            did="the agent started another daemon, which took in what was recorded meanwhile",
            how=f"the training went on all the while, and is at step {status.step:,}; every step is in the history once", steps_lost=0,
        )  # fmt: skip
