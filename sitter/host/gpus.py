"""All GPUs of the machine: opening the driver, finding them by UUID, noticing when they go and when they come back."""

import queue
from collections.abc import Iterable
from typing import NamedTuple

from sitter.clock import Clock
from sitter.host.device import Device
from sitter.host.figures import FAST, SLOW
from sitter.host.nvml import Answer, Backoff, Driver, Fate, library_present
from sitter.host.xid import Watched, XidWatch
from sitter.model import GpuNow, Xid

ABSENT_AGAIN_S = 600.0
"""Without a driver library we look again this seldom: somebody may install one."""

PARENT_OF_SLICE = "nvmlDeviceGetDeviceHandleFromMigDeviceHandle"

XID_END_S = 2.5
"""How long the Xid thread may take to end; more than one of its waits."""


class Seen(NamedTuple):
    """``note`` says in a sentence why there are no figures at all; empty where there are.

    ``alarms``: what went wrong, or right again, since the last look; ``xids``: what the driver reported as such, by GPU and number.
    """

    gpus: list[GpuNow]
    note: str
    alarms: list[str]
    xids: tuple[tuple[str, int], ...] = ()


class Gpus:
    """Not thread-safe: every method may block in the driver, so all are called from the one thread that may hang.

    ``present`` says whether there is anything to ask every second.
    """

    def __init__(self, clock: Clock) -> None:
        self.driver = Driver(clock.monotonic)
        self.present = False
        self._monotonic, self._wall = clock.monotonic, clock.wall
        self._devices: list[Device] = []
        self._open = False
        self._initialised = False
        self._down = False
        self._note = ""
        self._again = Backoff()
        self._alarms: list[str] = []
        self._xids: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._xid: XidWatch | None = None
        self._slices: tuple[str, ...] = ()

    @property
    def nothing_to_ask(self) -> bool:
        """No GPU is known, and it is not yet time to look for one again: ``look`` would bring what it brought last. From any thread."""
        return not (self._open or self._devices or self._again.due(self._monotonic()))

    def look(self, *, slow: bool, pid: int | None = None, uuids: tuple[str, ...] = ()) -> Seen:
        """Fast figures of the run's GPUs (of all, where it is not known which); with ``slow`` everything of all."""
        wanting = not self._open or any(d.lost for d in self._devices)
        fresh = wanting and self._again.due(self._monotonic()) and self._reopen()
        if self._open:
            self._find_slices(uuids, fresh)
            theirs = self._used(pid, uuids)
            for device in self._devices:
                if device.lost:
                    continue
                figures = {**FAST, **SLOW} if slow or fresh else FAST if theirs.get(device.uuid) is not False else {}
                fate = device.read(figures)
                if fate is Fate.DOWN:
                    self._gone_down()
                    break
                if fate is Fate.LOST:
                    self._say_lost(device)
                    self._again.failed(self._monotonic())
        used = self._used(pid, uuids)
        alarms, self._alarms = self._alarms, []
        xids = tuple(self._drain())
        return Seen([d.now(used.get(d.uuid)) for d in self._devices], self._note, alarms, xids)

    def close(self) -> None:
        """End the Xid thread, as far as it ends; the library is left to the end of the process."""
        if self._xid is not None:
            self._xid.close(XID_END_S)

    # --- opening

    def _reopen(self) -> bool:
        """Open the library (again) and find the devices; whether that worked."""
        now = self._monotonic()
        if not self._initialised and not library_present():
            self._note = "no NVIDIA driver on this machine, so no GPU figures"
            self._again = Backoff(ABSENT_AGAIN_S, ABSENT_AGAIN_S)
            self._again.failed(now)
            return False
        xid_ended = self._xid is None or self._xid.close(XID_END_S)
        self._xid = None
        if self._initialised and xid_ended:  # shutting down under a wait would pull the event set from under it
            self.driver.ask("nvmlShutdown")
        begun = self.driver.ask("nvmlInit")
        if begun.fate is not Fate.OK:
            return self._not_opened(begun)
        self._initialised = True
        counted = self.driver.ask("nvmlDeviceGetCount")
        if counted.fate is not Fate.OK:
            return self._not_opened(counted)
        found, dead = self._enumerate(int(counted.value))
        self._welcome(found, dead)
        if not self._devices:
            self._open, self._note = False, "the NVIDIA driver knows no GPU, so no GPU figures"
            self._again = Backoff(60.0, 60.0)
            self._again.failed(now)
            return False
        self._open, self.present, self._note = True, True, ""
        if any(d.lost for d in self._devices):
            self._again.failed(now)
        else:
            self._again = Backoff()
        listening = [Watched(d.handle, d.uuid) for d in self._devices if not d.lost]
        self._xid = XidWatch(listening, Driver(self._monotonic), self._xids.put)
        return True

    def _not_opened(self, answer: Answer) -> bool:
        self._note = f"the NVIDIA driver does not answer ({answer.text}), so no GPU figures; asked again every minute"
        self._again.failed(self._monotonic())
        self._open = False
        return False

    def _enumerate(self, count: int) -> tuple[list[Device], dict[int, str]]:
        """The devices that answer, and by index what the driver says of those that are lost."""
        found: list[Device] = []
        dead: dict[int, str] = {}
        for index in range(count):
            handle = self.driver.ask("nvmlDeviceGetHandleByIndex", index)
            uuid = self.driver.ask("nvmlDeviceGetUUID", handle.value) if handle.fate is Fate.OK else handle
            if uuid.fate is Fate.LOST:
                dead[index] = uuid.text
            if handle.fate is not Fate.OK or uuid.fate is Fate.LOST:
                continue
            name = self.driver.ask("nvmlDeviceGetName", handle.value).value or "NVIDIA GPU"
            called = uuid.value or f"index-{index}"
            found.append(Device(self.driver, self._monotonic, handle.value, index=index, uuid=called, name=name))
        return found, dead

    def _welcome(self, found: list[Device], dead: dict[int, str]) -> None:
        """Put what was found in place of what was known; a GPU that is not found any more stays, as lost."""
        for device in found:
            before = next((d for d in self._devices if d.uuid == device.uuid), None)
            if before is not None:
                device.xids = before.xids
            if before is not None and before.lost:
                if device.read({"temp": FAST["temp"]}) is Fate.LOST:
                    continue
                self._alarms.append(f"{device.label} answers again")
        here = {d.uuid for d in found}
        for known in self._devices:
            if known.uuid not in here:
                if not known.lost:
                    known.lost = dead.get(known.index, "the driver does not list it any more")
                    self._say_lost(known)
                known.forget()
                found.append(known)
        self._devices = sorted(found, key=lambda d: d.index)
        if self._down and here:
            self._down = False
            self._alarms.append("the NVIDIA driver answers again")

    def _say_lost(self, device: Device) -> None:
        what = "the run on it cannot go on; reset the GPU or start the host again"
        self._alarms.append(f"{device.label} is lost ({device.lost}): {what}")

    def _gone_down(self) -> None:
        self._open, self._down = False, True
        self._note = "the NVIDIA driver stopped answering, so no GPU figures; asked again every minute"
        self._alarms.append("the NVIDIA driver stopped answering; the run may not survive that")
        for device in self._devices:
            device.forget()
        self._again = Backoff()
        self._again.failed(self._monotonic())

    # --- whose GPU is it

    def _used(self, pid: int | None, uuids: tuple[str, ...]) -> dict[str, bool | None]:
        """Which GPUs the run uses: as the agent said; else by the process lists (in containers: of foreign pids)."""
        if uuids:
            told = {bare(u) for u in uuids}
            return {d.uuid: bare(d.uuid) in told or d.mig_slice is not None for d in self._devices}
        with_it = {d.uuid for d in self._devices if pid is not None and any(p.pid == pid for p in d.processes)}
        return {d.uuid: d.uuid in with_it if with_it else None for d in self._devices}

    def _find_slices(self, uuids: tuple[str, ...], fresh: bool) -> None:
        """A run in a MIG slice names the slice's UUID: find its GPU, once per telling."""
        if not fresh and uuids == self._slices:
            return
        self._slices = uuids
        for device in self._devices:
            device.mig_slice = None
        for uuid in uuids:
            if not uuid.startswith("MIG-"):
                continue
            part = self.driver.ask("nvmlDeviceGetHandleByUUID", uuid)
            whole = part if part.value is None else self.driver.ask(PARENT_OF_SLICE, part.value)
            of = whole if whole.value is None else self.driver.ask("nvmlDeviceGetUUID", whole.value)
            for device in self._devices:
                if device.uuid == of.value:
                    device.mig_slice = part.value

    def _drain(self) -> Iterable[tuple[str, int]]:
        """What was reported meanwhile: each GPU keeps its own, and it is handed on by the GPU's name."""
        while True:
            try:
                uuid, code = self._xids.get_nowait()
            except queue.Empty:
                return
            of = next((d for d in self._devices if d.uuid == uuid), None)
            if of is not None:
                of.reported(Xid(code=code, time=self._wall()))
            yield of.label if of is not None else "a GPU", code


def bare(uuid: str) -> str:
    """A UUID without the ``GPU-`` that NVML puts before it and torch does not, in small letters."""
    return uuid.strip().lower().removeprefix("gpu-")


def nothing_known(gpus: list[GpuNow], note: str) -> list[GpuNow]:
    """The same GPUs with every figure unknown, for when the driver does not answer."""
    return [GpuNow(index=g.index, uuid=g.uuid, name=g.name, note=note, used_by_run=g.used_by_run, xids=g.xids) for g in gpus]


