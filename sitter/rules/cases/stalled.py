"""Stories that the rule ``stalled`` is told."""

from sitter.model import GpuNow
from sitter.rules.base import Case, Tick
from sitter.rules.view import Sample
from sitter.vitals import Stood, Vitals
from sitter_wire.phases import BEFORE, LOADING, STEP

_BUSY = Vitals(state="R", seconds=10.0, cpu=1.0, main_cpu=1.0, io=0.0)
_STILL = Vitals(state="S", seconds=10.0, cpu=0.001, main_cpu=0.0, io=10.0)
_STOPPED = Vitals(state="T", seconds=10.0, cpu=0.0, main_cpu=0.0, io=0.0)
_LOCKED = Vitals(state="S", seconds=10.0, cpu=0.002, main_cpu=0.0, io=0.0, lock_waits=190.0)
_WORKERS = Vitals(state="S", seconds=10.0, cpu=0.001, main_cpu=0.0, io=0.0, children=2)
_TYPING = Vitals(state="S", seconds=10.0, cpu=0.0, main_cpu=0.0, io=0.0, reads_fd=0)


def _quiet(seconds: int, every: int = 10, after: float = 0.0, **facts: object) -> list[Tick]:
    """So long no safe point; the control thread answers unless told otherwise."""
    return [
        Tick(after + t, {"safe_point_age": float(t), "agent_age": 0.5, "phase": STEP, **facts}) for t in range(0, seconds, every)
    ]


def _silent(seconds: int, **facts: object) -> list[Tick]:
    return [Tick(float(t), {"safe_point_age": float(t), "agent_age": float(t), "phase": STEP, **facts}) for t in range(seconds)]


def _starting(seconds: int, **facts: object) -> list[Tick]:
    return [Tick(float(t), {"started": 0.0, "agent_age": 0.5, "phase": BEFORE, **facts}) for t in range(0, seconds, 10)]


def _steps(*times: float) -> list[Sample]:
    """Steps that took so long each."""
    at, out = 0.0, []
    for i, took in enumerate(times):
        at += took
        out.append(Sample(step=i, branch=0, time=at, values={"step_time": took, "data_wait": 0.0}))
    return out


def _gpu(util: float) -> list[GpuNow]:
    return [GpuNow(index=0, uuid="u", name="n", util=util)]


def _told(seconds: float) -> list[Tick]:
    stood = Stood(at=seconds, session="s", step=0, how="py-spy", where="train.py:41 in fetch: `q.get()`", path="reports/stacks-1.txt")
    return [Tick(seconds, {"stood": stood})]


FIRES = (
    Case("busy for 40 minutes, never seen", lambda: _quiet(2400, vitals=_BUSY), says="Maybe it is only slow: its first", acts=True),
    Case("busy for 50 minutes, after evaluations of 10", lambda: [*_steps(600.0, 600.0), *_quiet(3000, vitals=_BUSY)], says="far was 10 m"),
    Case("nothing is known of the process for 40 minutes", lambda: _quiet(2400), says="no step for 30 m", acts=True),
    Case("stands still for 3 minutes", lambda: _quiet(200, vitals=_STILL), says="stands still: no CPU, no I/O", acts=True),
    Case("says the line", lambda: [*_quiet(140, vitals=_STILL), *_told(140.0)], says="It stands at train.py:41 in fetch: `q.get()`"),
    Case("stands still after a busy evaluation", lambda: [*_quiet(300, vitals=_BUSY), *_quiet(600, vitals=_STILL)[30:]], says="no CPU"),
    Case("the loader's workers", lambda: _quiet(200, phase=LOADING, vitals=_WORKERS), says="its 2 worker processes stand still"),
    Case("somebody should type", lambda: _quiet(200, vitals=_TYPING), says="somebody to type", acts=True),
    Case("stopped for half a minute", lambda: _silent(60, vitals=_STOPPED), says="stopped by a signal", acts=True),
    Case("the lock is held", lambda: _silent(60, vitals=_LOCKED), says="keeps Python's interpreter lock", acts=True),
    Case("never began", lambda: _starting(3700, vitals=_BUSY), says="no step for 1 h"),
    Case("never began, and does nothing", lambda: _starting(700, vitals=_STILL), says="before the first one"),
    Case("and goes on", lambda: [*_quiet(240, vitals=_STILL), *_quiet(30, after=250.0, vitals=_BUSY)], says="it goes on after"),
    Case(
        "let go again", lambda: [*_silent(60, vitals=_STOPPED), Tick(70.0, {"agent_age": 0.5, "safe_point_age": 70.0, "vitals": _STILL})],
        says="it answers again after",
    ),
)

QUIET = (
    Case("the first evaluation, of 25 minutes", lambda: _quiet(1500, vitals=_BUSY)),
    Case("the first evaluation, on the GPU alone", lambda: _quiet(1500, vitals=_STILL, gpus=_gpu(90.0))),
    Case("an evaluation of 80 minutes where they take an hour", lambda: [*_steps(3600.0, 3600.0), *_quiet(4800, vitals=_BUSY)]),
    Case("waits 6 minutes for something, as it did before", lambda: [*_steps(300.0, 0.1, 290.0), *_quiet(360, vitals=_STILL)]),
    Case("paused by the operator", lambda: _quiet(9000, paused=True)),
    Case("a look with a debugger", lambda: _silent(9, vitals=_STOPPED)),
    Case("sorting something huge", lambda: _silent(25, vitals=_LOCKED)),
    Case("no training runs", lambda: _quiet(9000, in_session=False)),
    Case("compiling for 50 minutes", lambda: _starting(3000, vitals=_BUSY)),
    Case("a download at the start that waits for 8 minutes", lambda: _starting(480, vitals=_STILL)),
)
