"""What an Xid means that the NVIDIA driver reports of a GPU, whom it hurts, and what helps.

After NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html): its description, its trigger conditions, and
its resolution bucket for the immediate action (RESTART_APP, RESET_GPU, RESTART_BM, IGNORE).
"""

from typing import Literal, NamedTuple

from sitter.model import Severity

Harm = Literal["gone", "memory", "hardware", "program", "none", "unknown"]
"""``gone``: the GPU does nothing more for anybody; ``memory``: what it holds may be wrong; ``hardware``: it is not to be trusted;
``program``: mostly a fault of the program that ran on it, the GPU is well; ``none``: nothing at once, or the echo of something else."""

SEVERITIES: dict[Harm, Severity] = {
    "gone": "critical", "memory": "critical", "hardware": "critical", "program": "warning", "none": "info", "unknown": "warning",
}  # fmt: skip


class Meaning(NamedTuple):
    """``what`` goes on after the GPU's name; ``then`` is what to do."""

    what: str
    harm: Harm
    then: str


_REBOOT = "end the run and start the host again; look at power, slot and the kernel's PCI messages, and have it tested if it comes back"
_RESET = "end the run and reset the GPU (nvidia-smi --gpu-reset) or start the host again; have it tested if it comes back"
_OWN = (
    "the GPU is well, and mostly the program is at fault: restart it, and run it under compute-sanitizer if it comes back; a GPU on which "
    "other programs get this, too, is to be tested"
)
_AGAIN = "restart the run; if it comes back on this GPU only, have the GPU tested"

XIDS: dict[int, Meaning] = {
    8: Meaning("stopped processing", "hardware", _AGAIN),
    13: Meaning("ran into an exception in a kernel, mostly an index out of range", "program", _OWN),
    31: Meaning("was to touch memory that is not mapped (page fault)", "program", _OWN),
    32: Meaning("got commands that were damaged on their way, mostly over PCI Express", "hardware", _AGAIN),
    43: Meaning("stopped one program, which had run into a fault of its own", "program", _OWN),
    45: Meaning("was cleared of a program that ended: an echo of its end, or of another Xid", "none", "look for what came before it"),
    46: Meaning("stopped processing", "hardware", _RESET),
    48: Meaning("had a memory error that cannot be corrected (double-bit ECC)", "memory", _RESET),
    62: Meaning("has a microcontroller that halted", "hardware", _RESET),
    63: Meaning("has set a memory row aside, which is replaced at its next reset", "none", "nothing at once; reset it after the run"),
    64: Meaning("could not replace a bad memory row", "memory", _RESET),
    69: Meaning("was given an order that it does not know (class error)", "program", _OWN),
    74: Meaning("has trouble on an NVLink, or the GPU at its other end has", "hardware", f"look at `nvidia-smi nvlink -e`; {_RESET}"),
    79: Meaning("has fallen off the bus", "gone", _REBOOT),
    92: Meaning("corrects many memory errors (single-bit ECC)", "none", "nothing at once; have it tested after the run"),
    94: Meaning(
        "had a memory error that cannot be corrected, contained in one program", "memory",
        "the program that had it must be restarted; others may go on, and the GPU is reset when that suits",
    ),
    95: Meaning("had a memory error that cannot be corrected, and was not contained", "memory", _RESET),
    109: Meaning("could not switch between programs in time", "hardware", _RESET),
    119: Meaning("has a system processor (GSP) that does not answer", "gone", _RESET),
    120: Meaning("has a system processor (GSP) that reported an error", "hardware", _RESET),
    140: Meaning("had a memory error that cannot be corrected, and no row could be set aside for it", "memory", _RESET),
    154: Meaning("says with what it could be brought back, after another Xid", "none", "look for what came before it"),
    158: Meaning("did not answer in time", "hardware", _RESET),
}  # fmt: skip


def meaning(code: int) -> Meaning:
    """Of one that is not listed: where it is."""
    return XIDS.get(code) or Meaning("has something to report", "unknown", "see docs.nvidia.com/deploy/xid-errors")


def in_words(code: int) -> str:
    """``Xid 79: it has fallen off the bus``; beside the name of its GPU."""
    return f"Xid {code}: it {XIDS[code].what}" if code in XIDS else f"Xid {code}, see docs.nvidia.com/deploy/xid-errors"


def describe(code: int) -> str:
    """``Xid 79: the GPU has fallen off the bus; end the run and …``."""
    what, _, then = meaning(code)
    return f"Xid {code}: the GPU {what}; {then}"
