"""Xid: what the NVIDIA driver reports of broken hardware and broken programs, waited for in a thread of its own."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from sitter.host.nvml import Driver, Fate, address

WAIT_MS = 1000
"""How long one wait lasts; it bounds how fast the thread can end."""

XID_EVENT = 0x8  # nvmlEventTypeXidCriticalError


class Watched(NamedTuple):
    """A device to listen to: its NVML handle and its UUID."""

    handle: Any
    uuid: str


class XidWatch:
    """Waits for Xid events of these devices and hands each on: the device's UUID (empty: of which one is not known), and its number.

    ``on_xid`` is called in this thread. Where the driver offers no such events the thread ends quietly. After the
    library was opened again a new one is needed, since event sets do not survive that.
    """

    def __init__(self, devices: list[Watched], driver: Driver, on_xid: Callable[[tuple[str, int]], None]) -> None:
        self._devices, self._driver, self._on_xid = devices, driver, on_xid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="sitter-xid", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Ask it to end; whether it did within ``timeout`` seconds (a hung driver call does not)."""
        self._stop.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _listen(self) -> None:
        ask = self._driver.ask
        made = ask("nvmlEventSetCreate")
        if made.fate is not Fate.OK:
            return
        heard = sum(
            ask("nvmlDeviceRegisterEvents", d.handle, XID_EVENT, made.value).fate is Fate.OK for d in self._devices
        )
        pause = 1.0
        while heard and not self._stop.is_set():
            got = ask("nvmlEventSetWait_v2", made.value, WAIT_MS, tries=1)
            if got.fate is Fate.OK and got.value.eventType & XID_EVENT:
                self._on_xid((self._uuid(got.value.device), int(got.value.eventData)))
            if got.fate in (Fate.OK, Fate.BUSY):  # BUSY is how it says that nothing happened
                pause = 1.0
                continue
            if got.fate is Fate.DOWN:
                return
            self._stop.wait(pause)
            pause = min(2 * pause, 60.0)
        ask("nvmlEventSetFree", made.value)

    def _uuid(self, handle: Any) -> str:
        at = address(handle)
        return next((d.uuid for d in self._devices if address(d.handle) == at), "")
