"""Xid: what the NVIDIA driver reports of broken hardware and broken programs, waited for in a thread of its own."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from sitter.host.nvml import Driver, Fate, address

WAIT_MS = 1000
"""How long one wait lasts; it bounds how fast the thread can end."""

XID_EVENT = 0x8  # nvmlEventTypeXidCriticalError

# What it is and what helps, after NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors).
_RESTART = "restart the run; if it comes back on this GPU only, have the GPU tested"
_RESET = "the GPU needs a reset before it can be trusted"
MEANINGS = {
    8: ("the GPU stopped processing", _RESTART),
    13: ("a kernel ran into an exception, mostly an index out of range in the program", _RESTART),
    31: ("a kernel touched memory that is not mapped, mostly a bug of the program", _RESTART),
    43: ("the GPU stopped processing for one program", _RESTART),
    45: ("a program's work was cut off, mostly after it was killed or after another Xid", "look for that one"),
    48: ("an uncorrectable memory error (double bit)", _RESET),
    61: ("the GPU's microcontroller halted", _RESET),
    62: ("the GPU's microcontroller halted", _RESET),
    63: ("a memory row was marked for remapping", "nothing at once; reset the GPU after the run"),
    64: ("a memory row could not be remapped", _RESET),
    74: ("an NVLink error", "check the links; a reset may help"),
    79: ("the GPU fell off the bus", "the host must be started again; check power and slot"),
    92: ("many correctable memory errors", "have the GPU tested after the run"),
    94: ("an uncorrectable memory error, contained in one program", "restart the run"),
    95: ("an uncorrectable memory error, not contained", _RESET),
    119: ("the GPU's system processor does not answer", _RESET),
    120: ("the GPU's system processor reported an error", _RESET),
}


def describe(code: int) -> str:
    """``Xid 79: the GPU fell off the bus; the host must …``."""
    if code not in MEANINGS:
        return f"Xid {code}; see docs.nvidia.com/deploy/xid-errors"
    what, then = MEANINGS[code]
    return f"Xid {code}: {what}; {then}"


class Watched(NamedTuple):
    """A device to listen to: its NVML handle, and how it is called in sentences."""

    handle: Any
    label: str


class XidWatch:
    """Waits for Xid events of these devices and hands each on as one sentence.

    ``on_xid`` is called in this thread. Where the driver offers no such events the thread ends quietly. After the
    library was opened again a new one is needed, since event sets do not survive that.
    """

    def __init__(self, devices: list[Watched], driver: Driver, on_xid: Callable[[str], None]) -> None:
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
                self._on_xid(f"{self._label(got.value.device)}: {describe(int(got.value.eventData))}")
            if got.fate in (Fate.OK, Fate.BUSY):  # BUSY is how it says that nothing happened
                pause = 1.0
                continue
            if got.fate is Fate.DOWN:
                return
            self._stop.wait(pause)
            pause = min(2 * pause, 60.0)
        ask("nvmlEventSetFree", made.value)

    def _label(self, handle: Any) -> str:
        at = address(handle)
        return next((d.label for d in self._devices if address(d.handle) == at), "a GPU")
