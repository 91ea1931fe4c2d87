"""A GPU of the run is gone, its memory lies, or its driver reports an error of it."""

import math
from collections import deque
from typing import ClassVar

from sitter.model import Finding, GpuNow, Notification
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.cases.gpu_lost import FIRES, QUIET
from sitter.rules.gpu import of_run
from sitter.rules.view import RunView
from sitter.rules.xids import SEVERITIES, meaning
from sitter_wire.events import SessionStart
from sitter_wire.records import Happening

LOST = "lost: "
"""What the sampler's note begins with."""
SAME_S = 60.0
"""Counts are read every ten seconds: what is counted within so long after an Xid of the memory is that Xid."""


class GpuLost(Rule):
    """The driver has lost a GPU of this run, reports an error of it (Xid), or counts an uncorrectable error in its memory.

    A lost GPU does not come back to a process: the run ends, or hangs. An uncorrectable error (ECC, double bit) means that something
    that was computed since is wrong; most often the driver ends the process for it, and where it does not nothing tells. Errors
    that were counted before this run began are not held against it. What an Xid means, and what helps, is said after NVIDIA's catalogue:
    the GPU must be reset or the host started again (79, 48, 95, 64, 74, 119 …: critical, and somebody is told which checkpoint to start
    from); the program itself is mostly at fault and the GPU is well (13, 31, 43: a warning); or nothing is to be done at once (63, 92:
    noted). Each is said once in a process, and what comes with another is not said twice.
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
        self._heard: dict[str, float] = {}  # of each GPU the time of its newest Xid
        self._reported: deque[tuple[GpuNow, int]] = deque()
        self._told: dict[tuple[str, int], str] = {}  # of this process: by GPU and Xid the key of what was said
        self._of_memory: dict[str, float] = {}  # when an Xid of a memory error was said of it
        self._open: list[str] = []
        self._over: list[str] = []
        self._times = 0

    def happened(self, happening: Happening, view: RunView) -> None:
        """Another process: what the one before ran into is over, but for a GPU that is still gone."""
        if isinstance(happening.event, SessionStart):
            gone = set(self._lost.values())
            self._over += [key for key in self._open if key not in gone]
            self._open = [key for key in self._open if key in gone]
            self._told.clear()

    def tick(self, view: RunView, now: float) -> Finding | None:
        """One finding a second; what else there is follows in the next."""
        if self._over:
            text = "another process has begun since"
            return self.found("info", text, step=view.step or 0, branch=view.branch, key=self._over.pop(0), evidence={RECOVERED: 1})
        if not view.gpus:
            return None
        for gpu in of_run(view):
            if not gpu.note.startswith(LOST):
                self._ours.add(gpu.uuid)
        for gpu in view.gpus:
            self._hear(gpu)
        while self._reported:
            if (found := self._xid(*self._reported.popleft(), view, now)) is not None:
                return found
        return next((found for gpu in view.gpus if (found := self._looked_at(gpu, view, now)) is not None), None)

    def _looked_at(self, gpu: GpuNow, view: RunView, now: float) -> Finding | None:
        """Whether it is there, and what its memory counts."""
        if gpu.note.startswith(LOST):
            return self._gone(gpu, view) if gpu.uuid not in self._lost and self._is_ours(gpu) else None
        if gpu.uuid in self._lost and gpu.temp is not None:
            key = self._lost.pop(gpu.uuid)
            self._open.remove(key)
            return self.found(
                "info", f"GPU {gpu.index} ({gpu.name}) answers again", step=view.step or 0, branch=view.branch, key=key,
                evidence={RECOVERED: 1, "gpu": gpu.index},
            )  # fmt: skip
        return None if gpu.ecc_errors is None else self._counted(gpu, gpu.ecc_errors, view, now)

    def _is_ours(self, gpu: GpuNow) -> bool:
        return bool(gpu.used_by_run) or gpu.uuid in self._ours

    def _hear(self, gpu: GpuNow) -> None:
        """What the driver has newly reported of it. What was there at the first look is not of this rule's time."""
        heard = self._heard.get(gpu.uuid)
        self._heard[gpu.uuid] = max([heard or 0.0, *[xid.time for xid in gpu.xids]])
        if heard is not None and gpu.xids and self._is_ours(gpu):
            self._reported.extend((gpu, xid.code) for xid in gpu.xids if xid.time > heard)

    def _xid(self, gpu: GpuNow, code: int, view: RunView, now: float) -> Finding | None:
        what, harm, then = meaning(code)
        if (gpu.uuid, code) in self._told or (harm == "gone" and gpu.uuid in self._lost):
            return None
        self._times += 1
        key = self._told[gpu.uuid, code] = f"{self.name}:{gpu.index}:{self._times}"
        text = f"GPU {gpu.index} ({gpu.name}) {what} (Xid {code})"
        evidence: dict[str, float | int | str | None] = {"gpu": gpu.index, "uuid": gpu.uuid, "xid": code, "ecc_errors": gpu.ecc_errors}
        severity, step = SEVERITIES[harm], view.step or 0
        if severity != "critical":
            return self.found(severity, f"{text}: {then}", step=step, branch=view.branch, key=key, evidence=evidence)
        if harm == "memory":
            self._of_memory[gpu.uuid] = now
            text += ", so what it computes from then on may be wrong"
        return self._critical(f"{text}: {then}; then `sitter resume`{_from(view)}", view, key, step, evidence)

    def _gone(self, gpu: GpuNow, view: RunView) -> Finding | None:
        said = next((key for (uuid, code), key in self._told.items() if uuid == gpu.uuid and meaning(code).harm == "gone"), None)
        if said is not None:  # the driver's Xid came first
            self._lost[gpu.uuid] = said
            return None
        self._times += 1
        key = self._lost[gpu.uuid] = f"{self.name}:{gpu.index}:{self._times}"
        text = (
            f"GPU {gpu.index} ({gpu.name}) is gone under the run: {gpu.note.removeprefix(LOST)}; end the run, reset the GPU or start "
            f"the host again, then `sitter resume`{_from(view)}"
        )
        return self._critical(text, view, key, view.step or 0, {"gpu": gpu.index, "uuid": gpu.uuid, "ecc_errors": gpu.ecc_errors})

    def _counted(self, gpu: GpuNow, errors: int, view: RunView, now: float) -> Finding | None:
        known, at = self._errors.get(gpu.uuid, (errors, view.step or 0))
        more = errors - known
        if 0 < more < self.params.ecc:
            return None
        self._errors[gpu.uuid] = errors, view.step or 0
        if more <= 0 or gpu.uuid not in self._ours:
            return None  # fewer: the driver was loaded anew
        if now - self._of_memory.get(gpu.uuid, -math.inf) < SAME_S:
            return None  # its Xid told of it
        self._times += 1
        counted = "an uncorrectable memory error" if more == 1 else f"{more} uncorrectable memory errors"
        text = (
            f"GPU {gpu.index} ({gpu.name}) has counted {counted} "
            f"since step {at:,}: what it has computed since may be wrong; reset it, and go back to before{_from(view, before=at)}"
        )
        evidence: dict[str, float | int | str | None] = {"gpu": gpu.index, "uuid": gpu.uuid, "ecc_errors": errors}
        return self._critical(text, view, f"{self.name}:{gpu.index}:{self._times}", at, evidence)

    def _critical(self, text: str, view: RunView, key: str, onset: int, evidence: dict[str, float | int | str | None]) -> Finding:
        self._open.append(key)
        return self.found(
            "critical", text, step=view.step or 0, branch=view.branch, onset=onset, key=key, evidence=evidence,
            actions=[Notification(event="gpu_lost", text=text)],
        )  # fmt: skip


GpuLost.FIRES, GpuLost.QUIET = FIRES, QUIET


def _from(view: RunView, before: int | None = None) -> str:
    saved = [c.step for c in view.checkpoints if c.verified and (before is None or c.step <= before)]
    return f" (newest checkpoint: step {max(saved):,})" if saved else ""
