"""A GPU is too hot."""

from typing import ClassVar

from sitter.model import GpuNow, Proposable
from sitter.rules.base import Case, Rule, Tick
from sitter.rules.gpu import GpuRule
from sitter.rules.view import RunView
from sitter_wire.commands import Pause


def _gpu(temp: float | None) -> GpuNow:
    return GpuNow(index=0, uuid="GPU-0", name="H100", temp=temp, util=95.0, used_by_run=True)


class GpuHot(GpuRule):
    """A GPU of this run has stood at or above ``celsius`` for a minute.

    At this temperature most cards slow themselves down, and a fan or the room is at fault: the run gets slower, not worse. It
    proposes a pause; what is usual for your card says its data sheet. It is over when the card is 5 °C cooler for a minute.
    """

    name: ClassVar[str] = "gpu_hot"
    title: ClassVar[str] = "GPU too hot"

    class Params(Rule.Params, frozen=True):
        """When."""

        celsius: float = 85.0
        """°C (TraceML warns at 85)."""
        seconds: float = 60.0
        """For so long."""

    def lasts(self) -> float:
        """As the parameter says."""
        return float(self.params.seconds)

    def holds(self, gpu: GpuNow, view: RunView, is_on: bool) -> bool | None:
        """With 5 °C between on and off."""
        return None if gpu.temp is None else gpu.temp >= self.params.celsius - (5.0 if is_on else 0.0)

    def text(self, gpu: GpuNow) -> str:
        """For people."""
        slowed = f", slowed down by {', '.join(gpu.throttle)}" if gpu.throttle else ""
        return f"GPU {gpu.index} is at {gpu.temp:.0f} °C, for {self.params.seconds:.0f} s at {self.params.celsius:.0f} or more{slowed}"

    def over(self, gpu: GpuNow) -> str:
        """For people."""
        return f"GPU {gpu.index} has cooled to {gpu.temp:.0f} °C"

    def proposes(self, text: str) -> list[Proposable]:
        """A pause."""
        return [Pause()]

    FIRES = (
        Case("at 88 °C for two minutes", lambda: (Tick(t, {"gpus": [_gpu(88.0)]}) for t in range(120)), says="88 °C", acts=True),
        Case("hot, cool, hot", lambda: (Tick(t, {"gpus": [_gpu(70.0 if 150 < t < 300 else 90.0)]}) for t in range(450)), says="cooled"),
    )
    QUIET = (
        Case("a short peak", lambda: (Tick(t, {"gpus": [_gpu(90.0 if t % 60 < 20 else 80.0)]}) for t in range(600))),
        Case("the driver does not say", lambda: (Tick(t, {"gpus": [_gpu(None)]}) for t in range(600))),
        Case("no GPU at all", lambda: (Tick(t, {"gpus": []}) for t in range(600))),
    )
