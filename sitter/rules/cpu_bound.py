"""The CPU works, and the GPU waits for it."""

from collections import deque
from collections.abc import Iterator
from typing import ClassVar

from sitter.model import Finding, GpuNow, HostNow
from sitter.rules.base import Case, RuleParams, Tick
from sitter.rules.gpu import of_run
from sitter.rules.steps import stepping
from sitter.rules.trouble import MachineRule
from sitter.rules.view import RunView
from sitter_wire.events import SessionStart
from sitter_wire.records import Happening

LOOKS = 900
"""Seconds in which the training steps: a quarter of an hour."""
BUSY = 30.0
"""Percent that a GPU must once have reached, where the driver does not say that it is the run's: a run on the CPU has none."""
OVER = 0.5
"""It is over below so much of the bar."""


def _told(util: float | None, train: float | None, host: float | None, seconds: int = 1500, **facts: object) -> Iterator[Tick]:
    gpu = GpuNow(index=0, uuid="GPU-0", name="H100", util=util, used_by_run=True)
    for t in range(seconds):
        at = {"gpus": [gpu], "host": HostNow(cpu=host, train_cpu=train, cpus=16.0), "safe_point_age": 0.2, "steps_per_s": 2.0}
        yield Tick(float(t), {**at, **facts})


def _evaluates() -> Iterator[Tick]:
    """For 20 minutes of every 40, on the CPU."""
    for t in range(20_000):
        evaluates = t % 2400 > 1200
        gpu = GpuNow(index=0, uuid="GPU-0", name="H100", util=0.0 if evaluates else 95.0, used_by_run=True)
        age = float(t % 2400 - 1200) if evaluates else 0.2
        yield Tick(float(t), {"gpus": [gpu], "host": HostNow(cpu=95.0, train_cpu=100.0), "safe_point_age": age, "steps_per_s": 2.0})


class CpuBound(MachineRule):
    """The GPU has less than 10 % to do while the training keeps a core busy, or all cores are busy, for over half of a quarter of an hour.

    SageMaker Debugger's rule. It counts only while steps are made, so that an evaluation on the CPU, or a compilation, does not. The
    training's own thread at 90 % of a core or more: it does in Python, or on the CPU, what could be done in workers or on the GPU. The
    whole machine above 90 %: there are too few cores for what the loader does, or somebody else uses them.
    """

    name: ClassVar[str] = "cpu_bound"
    title: ClassVar[str] = "GPU waits for the CPU"
    default_mode = "watch"

    class Params(RuleParams, frozen=True):
        """When. Percent."""

        gpu: float = 10.0
        """The GPU is below."""
        cpu: float = 90.0
        """Of one core by the training, or of the whole machine."""
        share: float = 0.5
        """Of the time."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._was_busy: set[str] = set()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._looks: deque[tuple[bool, bool]] = deque()
        self._own = self._any = 0

    def happened(self, happening: Happening, view: RunView) -> None:
        """Another process."""
        if isinstance(happening.event, SessionStart):
            self._begin_anew()

    def tick(self, view: RunView, now: float) -> Finding | None:
        """A look, while steps are made."""
        if not view.gpus or view.host is None or not view.in_session or view.paused or not stepping(view):
            return None
        gpus = of_run(view)
        utils = [gpu.util for gpu in gpus if gpu.util is not None]
        own, host = view.host.train_cpu, view.host.cpu
        if not utils or (own is None and host is None):
            return None
        self._was_busy.update([gpu.uuid for gpu in gpus if gpu.used_by_run or (gpu.util or 0.0) >= BUSY])
        idle = max(utils) < self.params.gpu and any([gpu.uuid in self._was_busy for gpu in gpus])
        of_own = idle and own is not None and own >= self.params.cpu
        self._look(of_own, of_own or (idle and host is not None and host > self.params.cpu))
        if len(self._looks) < LOOKS:
            return None
        share = self._any / LOOKS
        if self.trouble:
            over = share < OVER * self.params.share
            return self.ends("the GPU waits for the CPU no more", view, evidence={"share": share}) if over else None
        return self._say(share, own, host, view) if share > self.params.share else None

    def _look(self, of_own: bool, of_any: bool) -> None:
        self._looks.append((of_own, of_any))
        self._own += of_own
        self._any += of_any
        if len(self._looks) > LOOKS:
            gone_own, gone_any = self._looks.popleft()
            self._own -= gone_own
            self._any -= gone_any

    def _say(self, share: float, own: float | None, host: float | None, view: RunView) -> Finding:
        if self._own > 0.5 * self._any:
            who = f"the training's own process keeps a core busy ({own or 0.0:.0f} % of one)"
            then = "move work out of its loop: into the loader's workers, onto the GPU, or do it for a whole batch at once"
        else:
            who = f"all cores are busy ({host or 0.0:.0f} %)"
            then = "make a sample cheaper, or give the run more cores"
        text = f"the GPU had less than {self.params.gpu:.0f} % to do in {share:.0%} of the last {LOOKS // 60} min while {who}; {then}"
        return self.says("warning", text, view, evidence={"share": share, "train_cpu": own, "host_cpu": host})

    FIRES = (
        Case("a loop in Python", lambda: _told(3.0, 101.0, 12.0), says="keeps a core busy (101 % of one)"),
        Case("all cores busy with pictures", lambda: _told(5.0, 20.0, 99.0), says="all cores are busy"),
        Case("and it is over", lambda: [*_told(3.0, 101.0, 12.0), *_told(90.0, 101.0, 12.0)], says="no more"),
    )  # fmt: skip
    QUIET = (
        Case("a busy GPU and a busy thread that feeds it", lambda: _told(97.0, 100.0, 60.0)),
        Case("evaluations on the CPU for half of the time", _evaluates),
        Case("both idle", lambda: _told(2.0, 5.0, 5.0)),
        Case("compiles for half an hour", lambda: _told(0.0, 100.0, 95.0, safe_point_age=None, steps_per_s=None)),
        Case("a training on the CPU, beside a GPU that nobody uses",
             lambda: _told(0.0, 1600.0, 100.0, gpus=[GpuNow(index=0, uuid="GPU-0", name="T600", util=0.0)])),
        Case("somebody else's GPU",
             lambda: _told(0.0, 100.0, 95.0, gpus=[GpuNow(index=0, uuid="G", name="H", util=0.0, used_by_run=False)])),
        Case("no GPU at all", lambda: _told(0.0, 100.0, 95.0, gpus=[])),
        Case("nothing is known", lambda: _told(None, None, None)),
        Case("the CPU is not known", lambda: _told(2.0, None, None)),
    )  # fmt: skip
