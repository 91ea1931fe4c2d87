"""What the rules about GPUs share: which of them are this run's, and one latch for each."""

import abc

from sitter.model import Finding, GpuNow, Proposable
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.latch import Latch
from sitter.rules.view import RunView

GIB = 1 << 30


def of_run(view: RunView) -> list[GpuNow]:
    """Those that the run uses: as far as the driver says, else the only one there is, else none (unknown is not ours)."""
    used = [gpu for gpu in view.gpus if gpu.used_by_run]
    if used or len(view.gpus) != 1 or view.gpus[0].used_by_run is False:
        return used
    return view.gpus


class GpuRule(Rule, abc.ABC):
    """A rule that looks at each of the run's GPUs every second."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._latches: dict[str, Latch] = {}
        self._times = 0

    @abc.abstractmethod
    def lasts(self) -> float:
        """Seconds that the condition must last."""

    @abc.abstractmethod
    def holds(self, gpu: GpuNow, view: RunView, is_on: bool) -> bool | None:
        """The condition, now; None where the driver does not say."""

    @abc.abstractmethod
    def text(self, gpu: GpuNow) -> str:
        """One sentence for people."""

    @abc.abstractmethod
    def over(self, gpu: GpuNow) -> str:
        """The same when it is over."""

    def proposes(self, text: str) -> list[Proposable]:
        """What is proposed."""
        return []

    def tick(self, view: RunView, now: float) -> Finding | None:
        """One finding a second; where two GPUs turn in the same second the other's follows in the next."""
        if not view.gpus:
            return None
        for gpu in of_run(view):
            latch = self._latches.setdefault(gpu.uuid, Latch(self.lasts(), self.lasts()))
            turn = latch.update(now, self.holds(gpu, view, latch.is_on))
            if turn is not None:
                return self._turned(gpu, view, on=turn == "on")
        return None

    def forget(self) -> None:
        """Begin to count anew."""
        self._latches.clear()

    def _turned(self, gpu: GpuNow, view: RunView, *, on: bool) -> Finding:
        step, branch = view.step or 0, view.branch
        if not on:
            evidence: dict[str, float | int | str | None] = {RECOVERED: 1, "gpu": gpu.index}
            return self.found("info", self.over(gpu), step=step, branch=branch, evidence=evidence, key=self._key(gpu))
        self._times += 1
        text = self.text(gpu)
        return self.found(
            "warning", text, step=step, branch=branch, actions=self.proposes(text), key=self._key(gpu),
            evidence={"gpu": gpu.index, "util": gpu.util, "temp": gpu.temp, "mem_used": gpu.mem_used, "mem_total": gpu.mem_total},
        )  # fmt: skip

    def _key(self, gpu: GpuNow) -> str:
        return f"{self.name}:{gpu.index}:{self._times}"
