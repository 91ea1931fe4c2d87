"""The disk of the run directory is nearly full."""

from typing import ClassVar

from sitter.model import CheckpointInfo, Finding, HostNow, Notification
from sitter.rules.base import Case, Rule, RuleParams, Tick
from sitter.rules.latch import Latch
from sitter.rules.trouble import MachineRule
from sitter.rules.view import RunView

GIB = 1 << 30


def _facts(free: float | None, checkpoint: float = 0.0) -> dict[str, object]:
    host = HostNow(disk_free=None if free is None else int(free * GIB), disk_total=1000 * GIB)
    size = int(checkpoint * GIB)
    kept = [CheckpointInfo(branch=0, step=1, path="/c", bytes=size, good=True, verified=True)] if size else []
    return {"host": host, "checkpoints": kept}


class DiskFull(MachineRule):
    """Less room is left on the run's disk than three more checkpoints need, or less than a gigabyte.

    A full disk stops checkpoints, and it stops the script's own files too, which usually ends the script. sitter checks the room before
    each checkpoint and never deletes the last good one; what else fills the disk is not its to delete. It tells somebody.
    """

    name: ClassVar[str] = "disk_full"
    title: ClassVar[str] = "disk nearly full"
    default_mode = "act"  # it only tells somebody
    default_limit: ClassVar[str] = "6 per day"

    class Params(Rule.Params, frozen=True):
        """When."""

        gigabytes: float = 1.0
        """Gibibytes free at least …"""
        checkpoints: float = 3.0
        """… and room for so many checkpoints of the newest one's size."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._latch = Latch(30.0, 60.0)

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Every second, by the host's last sample."""
        free = view.host.disk_free if view.host is not None else None
        needed = self.params.gigabytes * GIB
        if view.checkpoints:
            needed = max(needed, self.params.checkpoints * view.checkpoints[-1].bytes)
        turn = self._latch.update(now, None if free is None else free < needed * (1.5 if self._latch.is_on else 1.0))
        if turn is None or free is None:
            return None
        evidence: dict[str, float | int | str | None] = {"disk_free": free, "needed": int(needed)}
        if turn == "off":
            return self.ends(f"the run's disk has room again: {free / GIB:.1f} GiB free", view, evidence=evidence)
        text = f"the run's disk is nearly full: {free / GIB:.1f} GiB free, {needed / GIB:.1f} wanted; make room, or checkpoints stop"
        return self.says("critical", text, view, evidence=evidence, actions=[Notification(event="disk_full", text=text)])

    FIRES = (
        Case("half a gigabyte left", lambda: (Tick(t, _facts(0.5)) for t in range(60)), says="0.5 GiB free", acts=True),
        Case("room for two checkpoints of 10 GiB", lambda: (Tick(t, _facts(20.0, 10.0)) for t in range(60)), says="30.0 wanted"),
    )
    QUIET = (
        Case("20 GiB left", lambda: (Tick(t, _facts(20.0)) for t in range(600))),
        Case("full for a moment, while a file is replaced", lambda: (Tick(t, _facts(0.5 if t % 100 < 10 else 20.0)) for t in range(600))),
        Case("not known", lambda: (Tick(t, _facts(None)) for t in range(600))),
    )
