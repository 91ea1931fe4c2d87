"""A GPU of the run has nothing to do."""

from typing import ClassVar

from sitter.model import Finding, GpuNow, Notification, Proposable
from sitter.rules.base import Case, Rule, RuleParams, Tick
from sitter.rules.gpu import GpuRule
from sitter.rules.view import RunView, Sample


def _gpu(util: float | None) -> GpuNow:
    return GpuNow(index=0, uuid="GPU-0", name="H100", util=util, used_by_run=True)


def _slow_loader() -> list[Sample | Tick]:
    items: list[Sample | Tick] = []
    for t in range(800):
        items.append(Sample(step=t, branch=0, time=float(t), values={"data_wait": 0.9, "step_time": 1.0}))
        items.append(Tick(t, {"gpus": [_gpu(90.0 if t < 60 else 5.0)]}))
    return items


class GpuIdle(GpuRule):
    """A GPU that this run has kept busy has been idle for ten minutes while the training runs.

    Evaluation on the CPU, a slow loader, a hanging file system, a collective that waits: the reasons differ, the bill is the same. A
    GPU that the run never used (below 30 %) is not called idle. Where the waiting for data is logged, its share stands in the
    sentence. It tells somebody and does nothing else.
    """

    name: ClassVar[str] = "gpu_idle"
    title: ClassVar[str] = "GPU idle"
    default_mode = "act"  # it only tells somebody
    default_limit: ClassVar[str] = "6 per day"
    signals = ("data_wait",)

    class Params(Rule.Params, frozen=True):
        """When."""

        util: float = 10.0
        """Percent; below is idle (SageMaker Debugger's bar for a GPU that waits for the CPU)."""
        minutes: float = 10.0
        """For so long without a break."""
        busy: float = 30.0
        """Percent that the run must once have reached."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._was_busy: set[str] = set()
        self._waits: float | None = None

    def lasts(self) -> float:
        """As the parameter says."""
        return float(self.params.minutes) * 60.0

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """Share of the step that is spent waiting for data, smoothed over about 50 points."""
        values, waits = sample.values, self._waits
        wait, step = values.get("data_wait"), values.get("step_time")
        if wait is not None and step is not None and step > 0.0:
            share = wait / step if wait < step else 1.0
            self._waits = share if waits is None else waits + 0.02 * (share - waits)
        return None

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Looks only while the training should run. Of one that stands `stalled` has told, and for that one trouble once is enough."""
        if view.paused or not view.in_session:
            self.forget()
            return None
        if view.state in ("stalled", "hung"):
            return None
        return super().tick(view, now)

    def holds(self, gpu: GpuNow, view: RunView, is_on: bool) -> bool | None:
        """Idle, if it was ever busy."""
        if gpu.util is None:
            return None
        if gpu.util >= self.params.busy:
            self._was_busy.add(gpu.uuid)
        return bool(gpu.util < self.params.util) and gpu.uuid in self._was_busy

    def text(self, gpu: GpuNow) -> str:
        """For people."""
        waits = f"; {self._waits:.0%} of each step waits for data" if self._waits is not None and self._waits > 0.2 else ""
        return f"GPU {gpu.index} has been idle for {self.params.minutes:.0f} min while the training runs{waits}"

    def over(self, gpu: GpuNow) -> str:
        """For people."""
        return f"GPU {gpu.index} works again"

    def proposes(self, text: str) -> list[Proposable]:
        """Tell somebody."""
        return [Notification(event="gpu_idle", text=text)]

    FIRES = (
        Case(
            "busy, then nothing for eleven minutes",
            lambda: (Tick(t, {"gpus": [_gpu(90.0 if t < 60 else 0.0)]}) for t in range(60 + 11 * 60)),
            says="idle for 10 min", acts=True,
        ),
        Case("the loader is too slow, and the sentence says so", _slow_loader, says="waits for data"),
    )  # fmt: skip
    QUIET = (
        Case("it stands, and that was said", lambda: (
            Tick(t, {"gpus": [_gpu(90.0 if t < 60 else 0.0)], "state": "running" if t < 180 else "stalled"}) for t in range(4000)
        )),
        Case("evaluation for nine minutes", lambda: (Tick(t, {"gpus": [_gpu(0.0 if t % 720 > 180 else 90.0)]}) for t in range(4000))),
        Case("a GPU that the run never used", lambda: (Tick(t, {"gpus": [_gpu(0.0)]}) for t in range(4000))),
        Case("paused", lambda: (Tick(t, {"gpus": [_gpu(90.0 if t < 60 else 0.0)], "paused": t > 60}) for t in range(4000))),
        Case("the driver does not say", lambda: (Tick(t, {"gpus": [_gpu(None)]}) for t in range(4000))),
    )
