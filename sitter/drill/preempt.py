"""``sitter drill preempt``."""

import os
import signal
import subprocess
import sys
import time
from typing import ClassVar

from sitter.drill.base import Ended, Fault, Noticed, Planted
from sitter.drill.scene import Failed, Scene

PATIENCE_S = 90.0


class Preempt(Fault):
    """The training gets SIGTERM, as from a provider that takes the machine back, or a scheduler whose time is up.

    At the next safe point a checkpoint must be written and the run called preempted; `sitter resume` must go on from that very step.
    """

    name: ClassVar[str] = "preempt"
    title: ClassVar[str] = "SIGTERM from outside; a checkpoint is written, and `sitter resume` goes on from that step"
    own: ClassVar[bool] = True

    def plant(self, scene: Scene) -> Planted:
        """In full swing, to the process group as a scheduler does."""
        status = scene.going()
        assert status.agent is not None
        self._pid = status.agent.pid
        scene.may_end = True
        at = time.time()
        os.kill(self._pid, signal.SIGTERM)
        return Planted(what=f"SIGTERM to the training process {self._pid}", at=at, step=status.step)

    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """The agent's word about it, which names the checkpoint."""
        said = scene.entry(lambda e: e.time >= planted.at - 0.1 and "SIGTERM received" in e.detail, 60.0, "a word about the notice")
        at = said.time
        scene.until(lambda s: s.state == "preempted", 60.0, "the state preempted")
        return Noticed(what=said.detail, at=at)

    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """Resumed as a person, or @reboot, would do it."""
        status = scene.until(lambda s: any(c.verified for c in s.checkpoints), 60.0, "a verified checkpoint")
        saved = max(c.step for c in status.checkpoints if c.verified)
        last = scene.settled(lambda r: r.last(1, ["step_time"]))[-1].step
        words = [sys.executable, "-m", "sitter.cli.main", "resume", "-r", str(scene.run.path)]
        environment = {k: v for k, v in os.environ.items() if k != "SITTER_RUN"}
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=PATIENCE_S, stdin=subprocess.DEVNULL, env=environment
        )
        if done.returncode != 0:
            raise Failed(f"`sitter resume` was expected to go on, and says: {' '.join(done.stderr.split())}")
        scene.until(lambda s: s.agent is not None and s.agent.pid not in (0, self._pid), PATIENCE_S, "a new training process")
        scene.may_end = False
        status = scene.until(lambda s: (s.step or 0) > last + 5, scene.patience(60), f"a step beyond {last:,}")
        return Ended(
            did=f"wrote a checkpoint of step {saved:,}; the state was preempted; {done.stdout.strip().splitlines()[0]}",
            how=f"at step {status.step:,} of a new process", steps_lost=max(0, last + 1 - saved),
        )  # fmt: skip
