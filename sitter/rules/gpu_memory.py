"""A GPU's memory is nearly full."""

from typing import ClassVar

from sitter.model import GpuNow
from sitter.rules.base import Case, Rule, Tick
from sitter.rules.gpu import GIB, GpuRule
from sitter.rules.view import RunView


def _gpu(used: float | None) -> GpuNow:
    return GpuNow(
        index=0, uuid="GPU-0", name="H100", used_by_run=True, mem_used=None if used is None else int(used * GIB), mem_total=80 * GIB
    )


class GpuMemory(GpuRule):
    """A GPU of this run has had less than 3 % of its memory left for half a minute.

    Allocators that keep what they once had (PyTorch's does) may stand here for days without harm; but the next longer batch, an
    evaluation or a fragmented heap ends the run with an out-of-memory error. To be known, and nothing is proposed: a smaller batch
    or checkpointed activations are the script's to choose. It is over below 95 %.
    """

    name: ClassVar[str] = "gpu_memory"
    title: ClassVar[str] = "GPU memory nearly full"
    default_mode = "watch"

    class Params(Rule.Params, frozen=True):
        """When."""

        percent: float = 97.0
        """Of the card's memory (TraceML calls 97 % critical)."""
        seconds: float = 30.0
        """For so long."""

    def lasts(self) -> float:
        """As the parameter says."""
        return float(self.params.seconds)

    def holds(self, gpu: GpuNow, view: RunView, is_on: bool) -> bool | None:
        """With 2 % between on and off."""
        if gpu.mem_used is None or not gpu.mem_total:
            return None
        return bool(100.0 * gpu.mem_used / gpu.mem_total >= self.params.percent - (2.0 if is_on else 0.0))

    def text(self, gpu: GpuNow) -> str:
        """For people."""
        used, total = (gpu.mem_used or 0) / GIB, (gpu.mem_total or 0) / GIB
        return f"GPU {gpu.index} memory {used:.1f} of {total:.1f} GiB: the next longer batch may be one too many"

    def over(self, gpu: GpuNow) -> str:
        """For people."""
        return f"GPU {gpu.index} has memory left again: {(gpu.mem_used or 0) / GIB:.1f} of {(gpu.mem_total or 0) / GIB:.1f} GiB used"

    FIRES = (Case("79 of 80 GiB", lambda: (Tick(t, {"gpus": [_gpu(79.0)]}) for t in range(60)), says="79.0 of 80.0 GiB", acts=False),)
    QUIET = (
        Case("76 of 80 GiB", lambda: (Tick(t, {"gpus": [_gpu(76.0)]}) for t in range(600))),
        Case("a peak of ten seconds", lambda: (Tick(t, {"gpus": [_gpu(79.5 if t % 60 < 10 else 70.0)]}) for t in range(600))),
        Case("the driver does not say", lambda: (Tick(t, {"gpus": [_gpu(None)]}) for t in range(600))),
    )
