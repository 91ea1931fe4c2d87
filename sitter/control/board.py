"""The status: everything that is known of the present, in one value. Unknown is None."""

import math
import os
from collections.abc import Callable

import msgspec

from sitter.clock import Clock
from sitter.control.dispatcher import Dispatcher
from sitter.control.incidents import Incidents
from sitter.control.life import Life
from sitter.control.present import HIDDEN, Present
from sitter.model import (
    AgentNow,
    CheckpointInfo,
    DaemonNow,
    GpuNow,
    HostNow,
    Incident,
    IncidentCount,
    State,
    Status,
    Verdict,
)
from sitter.rules.engine import Engine
from sitter.version import VERSION
from sitter_wire import rundir
from sitter_wire.places import PlaceError, RunDir

ENDED: tuple[State, ...] = ("crashed", "preempted", "finished", "stopped")
BEGINS_S = 120.0
"""So old, a training that has not logged a loss yet is no reason to call somebody: it compiles, or logs every hundred steps. That it is not
guarded is said all the same."""


class Board:
    """Puts the status together. On the loop's thread."""

    def __init__(
        self,
        *,
        run: RunDir,
        clock: Clock,
        present: Present,
        engine: Engine,
        dispatcher: Dispatcher,
        incidents: Incidents,
        life: Life,
        last_log_id: Callable[[], int],
        of_sitter: Callable[[], list[str]],
    ) -> None:
        self._run, self._clock, self._present, self._engine = run, clock, present, engine
        self._dispatcher, self._incidents, self._life = dispatcher, incidents, life
        self._last_log_id, self._of_sitter = last_log_id, of_sitter
        self.gpus: list[GpuNow] = []
        self.host: HostNow | None = None
        self.serving = True
        self.started = clock.wall()
        self.run_started: float | None = None
        self._elsewhere = _elsewhere(run)

    def status(self) -> Status:
        """Now."""
        p, state = self._present, self._life.state()
        ends_in = p.ends_in() if state == "running" else None
        wait, step_time = p.signals.get("data_wait"), p.signals.get("step_time")
        share = wait.last / step_time.last if wait and step_time and step_time.last > 0 else None
        return Status(
            run=self._run.name,
            verdict=self._verdict(state),
            state=state,
            step=p.step,
            micro=p.micro_now(),
            branch=p.branch,
            total=p.total,
            ends_at=None if ends_in is None else self._clock.wall() + ends_in,
            mode=self._dispatcher.preset,
            watching=self._engine.watching(),
            goal=p.goal_now(),
            daemon=DaemonNow(pid=os.getpid(), version=VERSION, started=self.started) if self.serving else None,
            agent=self._agent(),
            signals={name: now for name, now in p.signals.items() if name not in HIDDEN},
            knobs=p.knobs(),
            gpus=self.gpus,
            proposals=list(self._dispatcher.proposals.values()),
            checkpoints=self._checkpoints(),
            incidents=IncidentCount(open=len(self._incidents.open), total=self._incidents.total),
            exit=self._life.exit,
            directory=str(self._run.path),
            host=self.host,
            started=self._run_began(),
            steps_per_s=p.rate.per_s() if state == "running" else None,
            data_wait=share,
            slope_per_k=p.slope_per_k(),
            blind=self._engine.blind(),
            warnings=self._warnings(state),
            epoch=p.epoch(),
            epochs=p.epochs,
            log_id=self._last_log_id(),
            restart=self._life.restart,
        )

    def _run_began(self) -> float | None:
        session = self._present.session
        if self.run_started is None and session is not None and session.clock:
            self.run_started = session.clock[0]
        return self.run_started

    def _verdict(self, state: State) -> Verdict:
        if state in ("crashed", "hung", "preempted"):
            return "DEAD"
        if self._life.restart is not None:
            return "HEALING"
        loss = self._present.signals.get("loss")
        if state == "finished" and loss is not None and not math.isfinite(loss.last):
            return "NEEDS YOU"  # it came to its end, and what it made is worth nothing
        asked = any(p.due is None for p in self._dispatcher.proposals.values())
        if asked or state == "stalled" or (self._engine.blind() and not self._begins()):
            return "NEEDS YOU" if state not in ENDED else "OK"
        if self._unhealed(state):
            return "NEEDS YOU"
        return "HEALING" if self._incidents.open and state not in ENDED else "OK"

    def _begins(self) -> bool:
        session = self._present.session
        return session is None or session.clock is None or self._clock.monotonic() - session.clock[1] < BEGINS_S

    def _unhealed(self, state: State) -> list[Incident]:
        """Troubles of a living training that nobody does anything about."""
        return [] if state in ENDED else [i for i in self._incidents.open if not self._dispatcher.at_work(i)]

    def _warnings(self, state: State) -> list[str]:
        asked = {f.rule for p in self._dispatcher.proposals.values() for f in (p.finding, *p.also)}
        left = [i.text for i in self._unhealed(state) if i.rule not in asked]
        undone = [f"nothing is done about this: {text}; `sitter rollback` goes back" for text in left]
        return [*undone, *self._of_sitter(), *([self._elsewhere] if self._elsewhere else [])]

    def _agent(self) -> AgentNow | None:
        session, pong = self._present.session, self._present.pong
        if session is None:
            return None
        seen = self._present.pong_at
        start = session.start
        return AgentNow(
            pid=session.pid,
            last_seen_s=None if seen is None else max(0.0, self._clock.monotonic() - seen),
            dropped=pong.dropped if pong else 0,
            session=session.id,
            version=start.versions.get("sitter", "") if start else "",
        )

    def _checkpoints(self) -> list[CheckpointInfo]:
        return [
            msgspec.structs.replace(info, path=str(self._run.path / info.path))
            for info in sorted(self._present.checkpoints.values(), key=lambda c: (c.branch, c.step))
        ]


def _elsewhere(run: RunDir) -> str:
    """Where recorder and history lie, if not in the run directory."""
    try:
        return rundir.read(run).elsewhere
    except PlaceError:
        return ""
