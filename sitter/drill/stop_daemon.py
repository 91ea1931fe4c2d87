"""``sitter drill stop-daemon``."""

import contextlib
import os
import signal
import statistics
import time
from typing import ClassVar

from sitter.drill.base import Ended, Fault, Noticed, Planted
from sitter.drill.scene import Failed, Scene
from sitter.errors import SitterError
from sitter.store.reader import Reader
from sitter_wire.queries import GetStatus

STOPPED_S, STOPPED_STEPS = 6.0, 5
"""Whichever is longer."""
SLOWER = 2.0
"""Steps on a busy machine scatter; a training that waits for a stopped process does not make any."""


class StopDaemon(Fault):
    """The daemon is stopped (SIGSTOP) for some seconds, as on a machine that swaps, and goes on again. The training must not wait for it.

    Whoever asks must be told that no daemon answers; afterwards every step of that time must be in the history, once.
    """

    name: ClassVar[str] = "stop-daemon"
    title: ClassVar[str] = "the daemon is stopped for a while; the training does not wait, and no step is missing"
    own: ClassVar[bool] = True

    def plant(self, scene: Scene) -> Planted:
        """In full swing."""
        status = scene.going(60)
        assert status.daemon is not None
        self._daemon = status.daemon.pid
        self._seconds = max(STOPPED_S, STOPPED_STEPS / (status.steps_per_s or 1.0))
        self._at, at = time.monotonic(), time.time()
        os.kill(self._daemon, signal.SIGSTOP)
        return Planted(what=f"the daemon {self._daemon} was stopped for {self._seconds:.0f} s", at=at, step=status.step)

    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """Whoever asks is told."""
        try:
            noticed = self._unanswered(scene)
            with contextlib.suppress(Failed):  # which is that time is up
                for _ in scene.looks(max(0.1, self._at + self._seconds - time.monotonic()), "the end of its rest"):
                    pass
            return noticed
        finally:
            self._until = time.monotonic()
            os.kill(self._daemon, signal.SIGCONT)

    def _unanswered(self, scene: Scene) -> Noticed:
        for _ in scene.looks(self._seconds, "a question without an answer"):
            try:
                scene.ask(GetStatus(), 1.0)
            except SitterError as e:
                return Noticed(what=f"whoever asks is told: {e}", at=time.time())
        raise AssertionError

    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """As many steps as ever, all of them in the history."""
        status = scene.until(lambda s: s.state == "running" and (s.step or 0) > (planted.step or 0), 30.0, "an answer of the daemon")
        beyond = (status.step or 0) + 20
        status = scene.until(lambda s: (s.step or 0) > beyond, scene.patience(60), f"step {beyond:,}")
        if status.daemon is None or status.daemon.pid != self._daemon:
            raise Failed(f"the daemon {self._daemon} was expected to go on, found {status.daemon and status.daemon.pid}")
        missing = scene.gaps((planted.step or 0) - 20)
        if missing:
            raise Failed(f"every step was expected in the history once; not so: {', '.join(map(str, missing[:10]))}")
        before, during = scene.settled(self._steps)
        usual = statistics.median(before) if before else 0.0
        if len(during) < 2:
            raise Failed(f"the training was not to wait, and made {len(during)} steps in the {self._until - self._at:.0f} s")
        then = statistics.median(during)
        if then > SLOWER * usual:
            raise Failed(f"the training was not to wait; a step took {1e3 * usual:.3g} ms before, and {1e3 * then:.3g} ms during it")
        return Ended(
            did="nothing, as it should: the agent recorded, and shipped what there was when the daemon went on",
            how=f"{len(during):,} steps in the {self._until - self._at:.0f} s, {1e3 * then:.3g} ms each ({1e3 * usual:.3g} ms before);"
            " every step is in the history once",
            steps_lost=0,
        )  # fmt: skip

    def _steps(self, reader: Reader) -> tuple[list[float], list[float]]:
        """Step times before and during the stop, in seconds."""
        points = [(p.time / 1e9, p.values["step_time"]) for p in reader.last(100_000, ["step_time"])]
        before = [took for at, took in points if self._at - 30.0 < at <= self._at]
        return before, [took for at, took in points if self._at < at <= self._until]
