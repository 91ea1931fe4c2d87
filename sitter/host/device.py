"""One GPU: its figures as last read, which of them it does not have, and which are to be asked for again later."""

from collections.abc import Callable, Mapping
from typing import Any

from sitter.host.figures import WORDS, Memory, Usage, Way
from sitter.host.nvml import Answer, Backoff, Driver, Fate
from sitter.model import GpuNow, Xid

MOST_XIDS = 16
"""Xids that are remembered of a GPU: one that reports them without end says nothing new."""


class Device:
    """A GPU of one opening of the driver. ``lost`` is the driver's sentence about it once it is lost, else empty."""

    def __init__(
        self, driver: Driver, monotonic: Callable[[], float], handle: Any, *, index: int, uuid: str, name: str
    ) -> None:
        self.handle, self.index, self.uuid, self.name = handle, index, uuid, name
        self.label = f"GPU {index} ({name})"
        self.lost = ""
        self.mig_slice: Any = None
        """NVML handle of the MIG slice that the run was given; its memory is the run's memory."""
        self.xids: list[Xid] = []
        self._driver, self._monotonic = driver, monotonic
        self._values: dict[str, Any] = {}
        self._way: dict[str, int] = {}
        self._without: dict[str, Fate] = {}
        self._waits: dict[str, Backoff] = {}
        self._troubles: dict[str, str] = {}

    def read(self, figures: Mapping[str, tuple[Way, ...]]) -> Fate:
        """Ask for these figures. OK, or LOST or DOWN, upon which nothing is known any more."""
        for name, ways in figures.items():
            answer = self._read_one(name, ways)
            if answer.fate in (Fate.LOST, Fate.DOWN):
                self.forget()
                if answer.fate is Fate.LOST:
                    self.lost = answer.text
                return answer.fate
        return Fate.OK

    def reported(self, xid: Xid) -> None:
        """The driver has reported it of this GPU."""
        self.xids = [*self.xids, xid][-MOST_XIDS:]

    def forget(self) -> None:
        """Nothing that was read holds any longer."""
        self._values.clear()

    @property
    def processes(self) -> list[Usage]:
        """Who computes on it; empty also where the driver does not say."""
        found: list[Usage] = self._values.get("processes", [])
        return found

    def now(self, used_by_run: bool | None) -> GpuNow:
        """What is known of it."""
        get = self._values.get
        memory: Memory | None = get("memory")
        return GpuNow(
            index=self.index, uuid=self.uuid, name=self.name, util=get("util"), mem_used=memory and memory.used,
            mem_total=memory and memory.total, temp=get("temp"), power=get("power"), power_limit=get("power_limit"),
            sm_clock=get("sm_clock"), throttle=get("throttle") or [], note=self._note(), used_by_run=used_by_run,
            energy=get("energy"), ecc_errors=get("ecc"), xids=list(self.xids),
        )  # fmt: skip

    def _read_one(self, name: str, ways: tuple[Way, ...]) -> Answer:
        wait = self._waits.get(name)
        if name in self._without or (wait and not wait.due(self._monotonic())):
            return Answer(Fate.OK)
        at = self._way.get(name, 0)
        answer = self._ask(name, ways[at])
        while answer.fate is Fate.NEVER and at + 1 < len(ways):
            at += 1
            answer = self._ask(name, ways[at])
        self._way[name] = at
        if answer.fate is Fate.OK:
            self._values[name] = answer.value
            self._waits.pop(name, None)
            self._troubles.pop(name, None)
            return answer
        self._values.pop(name, None)
        if answer.fate in (Fate.NEVER, Fate.DENIED):
            self._without[name] = answer.fate
        elif answer.fate in (Fate.LATER, Fate.ABSENT):
            self._waits.setdefault(name, Backoff()).failed(self._monotonic())
            self._troubles[name] = answer.text
        return answer

    def _ask(self, name: str, way: Way) -> Answer:
        handle = self.mig_slice if name == "memory" and self.mig_slice is not None else self.handle
        answer = self._driver.ask(way.function, handle, *way.args)
        if answer.fate is not Fate.OK:
            return answer
        try:
            return Answer(Fate.OK, way.read(answer.value))
        except Exception as e:  # noqa: BLE001 — an answer of another shape than the manual says is no answer
            return Answer(Fate.LATER, None, -1, f"{type(e).__name__}: {e}")

    def _note(self) -> str:
        if self.lost:
            return f"lost: {self.lost}"
        denied = [WORDS[n] for n, fate in self._without.items() if fate is Fate.DENIED]
        notes = [f"no permission for {', '.join(denied)}"] if denied else []
        notes += [f"no {WORDS[n]} for now: {text}" for n, text in self._troubles.items()]
        if self._values.get("mig"):
            whole = self.mig_slice is None
            notes.append(f"MIG is on: {'figures are of the whole GPU' if whole else 'memory is of the run’s slice'}")
        return "; ".join(notes)
