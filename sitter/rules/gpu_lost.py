"""A GPU of the run is gone, or its memory lies."""

from collections.abc import Iterator
from typing import ClassVar

from sitter.model import CheckpointInfo, Finding, GpuNow, Notification
from sitter.rules.base import RECOVERED, Case, Rule, RuleParams, Tick
from sitter.rules.gpu import of_run
from sitter.rules.view import RunView

LOST = "lost: "
"""What the sampler's note begins with."""


def _told(note: str = "", ecc: int | None = 0, *, ours: bool | None = True, temp: float | None = 60.0) -> list[GpuNow]:
    return [GpuNow(index=0, uuid="GPU-0", name="H100", temp=temp, note=note, ecc_errors=ecc, used_by_run=ours)]


def _gone(ours: bool | None = True) -> list[GpuNow]:
    return _told("lost: GPU is lost", None, ours=ours, temp=None)


def _story(*stages: list[GpuNow]) -> Iterator[Tick]:
    saved = CheckpointInfo(branch=0, step=12_000, path="/c", bytes=1, good=True, verified=True)
    for i, gpus in enumerate(stages):
        for t in range(60):
            yield Tick(float(60 * i + t), {"gpus": gpus, "step": 12_100 + 60 * i + t, "checkpoints": [saved]})


class GpuLost(Rule):
    """The driver has lost a GPU of this run, or counts an uncorrectable error in its memory.

    A lost GPU does not come back to a process: the run ends, or hangs. An uncorrectable error (ECC, double bit) means that something
    that was computed since is wrong; most often the driver ends the process for it, and where it does not nothing tells. Errors
    that were counted before this run began are not held against it. It tells somebody which checkpoint to start from. What the driver
    itself says, its Xid errors among it, stands in the logbook beside it, and in the sentence on how a run died.
    """

    name: ClassVar[str] = "gpu_lost"
    title: ClassVar[str] = "GPU lost"
    default_mode = "act"  # it only tells somebody
    default_limit: ClassVar[str] = "12 per day"

    class Params(RuleParams, frozen=True):
        """When."""

        ecc: int = 1
        """Uncorrectable memory errors more than there were."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._ours: set[str] = set()
        self._lost: dict[str, str] = {}
        self._errors: dict[str, tuple[int, int]] = {}  # of each GPU how many, and at which step that was looked at
        self._times = 0

    def tick(self, view: RunView, now: float) -> Finding | None:
        """One finding a second; another GPU's follows in the next."""
        if not view.gpus:
            return None
        for gpu in of_run(view):
            if not gpu.note.startswith(LOST):
                self._ours.add(gpu.uuid)
        for gpu in view.gpus:
            if gpu.note.startswith(LOST):
                if gpu.uuid not in self._lost and (gpu.used_by_run or gpu.uuid in self._ours):
                    return self._gone(gpu, view)
            elif gpu.uuid in self._lost and gpu.temp is not None:
                return self.found(
                    "info", f"GPU {gpu.index} ({gpu.name}) answers again", step=view.step or 0, branch=view.branch,
                    key=self._lost.pop(gpu.uuid), evidence={RECOVERED: 1, "gpu": gpu.index},
                )  # fmt: skip
            elif gpu.ecc_errors is not None and (found := self._counted(gpu, gpu.ecc_errors, view)) is not None:
                return found
        return None

    def _gone(self, gpu: GpuNow, view: RunView) -> Finding:
        self._times += 1
        key = self._lost[gpu.uuid] = f"{self.name}:{gpu.index}:{self._times}"
        text = (
            f"GPU {gpu.index} ({gpu.name}) is gone under the run: {gpu.note.removeprefix(LOST)}; end the run, reset the GPU or start "
            f"the host again, then `sitter resume`{_from(view)}"
        )
        return self._critical(text, gpu, view, key, view.step or 0)

    def _counted(self, gpu: GpuNow, errors: int, view: RunView) -> Finding | None:
        known, at = self._errors.get(gpu.uuid, (errors, view.step or 0))
        more = errors - known
        if 0 < more < self.params.ecc:
            return None
        self._errors[gpu.uuid] = errors, view.step or 0
        if more <= 0 or gpu.uuid not in self._ours:
            return None  # fewer: the driver was loaded anew
        self._times += 1
        counted = "an uncorrectable memory error" if more == 1 else f"{more} uncorrectable memory errors"
        text = (
            f"GPU {gpu.index} ({gpu.name}) has counted {counted} "
            f"since step {at:,}: what it has computed since may be wrong; reset it, and go back to before{_from(view, before=at)}"
        )
        return self._critical(text, gpu, view, f"{self.name}:{gpu.index}:{self._times}", at)

    def _critical(self, text: str, gpu: GpuNow, view: RunView, key: str, onset: int) -> Finding:
        return self.found(
            "critical", text, step=view.step or 0, branch=view.branch, onset=onset, key=key,
            actions=[Notification(event="gpu_lost", text=text)],
            evidence={"gpu": gpu.index, "uuid": gpu.uuid, "ecc_errors": gpu.ecc_errors},
        )  # fmt: skip

    FIRES = (
        Case("it fell off the bus", lambda: _story(_told(), _gone()), says="(newest checkpoint: step 12,000)", acts=True),
        Case("and no process is known any more",
             lambda: _story(_told(), _gone(None)), says="is gone under the run", acts=True),
        Case("an error in its memory",
             lambda: _story(_told(ecc=3), _told(ecc=4)), says="an uncorrectable memory error since step 12,159", acts=True),
        Case("and it comes back", lambda: _story(_told(), _gone(), _told()), says="answers again"),
    )  # fmt: skip
    QUIET = (
        Case("well", lambda: _story(_told())),
        Case("errors from before", lambda: _story(_told(ecc=7))),
        Case("the driver was loaded anew", lambda: _story(_told(ecc=7), _told(ecc=0))),
        Case("somebody else's GPU", lambda: _story(_told(ours=False), _gone(False))),
        Case("somebody else's memory", lambda: _story(_told(ours=False), _told(ecc=9, ours=False))),
        Case("the driver does not say", lambda: _story(_told(ecc=None), _told("no permission for memory errors", None))),
        Case("the driver hangs for a while",
             lambda: _story(_told(), _told("the NVIDIA driver has not answered x for 11 s", None), _told())),
        Case("no GPU at all", lambda: _story([])),
    )  # fmt: skip


def _from(view: RunView, before: int | None = None) -> str:
    saved = [c.step for c in view.checkpoints if c.verified and (before is None or c.step <= before)]
    return f" (newest checkpoint: step {max(saved):,})" if saved else ""
