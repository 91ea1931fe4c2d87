"""Which figures a GPU is asked for, by which driver functions, and what the answers mean."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Way(NamedTuple):
    """One driver function that gives a figure; ``read`` turns its answer into ours."""

    function: str
    args: tuple[Any, ...]
    read: Callable[[Any], Any]


class Memory(NamedTuple):
    """Bytes."""

    used: int
    total: int


class Usage(NamedTuple):
    """A process on the GPU; ``memory`` in bytes, None where the driver does not say (MIG, WSL, containers)."""

    pid: int
    memory: int | None


_MEMORY_V2 = 0x02000028  # nvmlMemory_v2: version 2 of a 40-byte struct
_UNCORRECTED, _VOLATILE = 1, 0
_MIG_ON = 1

# Bits of nvmlClocksEventReasons. Bit 1 (idle) is left out: it holds nothing back, and utilisation says it already.
_REASONS = {
    0x2: "application clocks", 0x4: "power cap", 0x8: "hardware slowdown", 0x10: "sync boost", 0x20: "too hot (driver)",
    0x40: "too hot (hardware)", 0x80: "power brake", 0x100: "display clocks",
}  # fmt: skip


def reasons(bits: int) -> list[str]:
    """In words, what the driver's bits say of why a GPU's clock is held back."""
    return [words for bit, words in _REASONS.items() if bits & bit]


def bits_of(words: Iterable[str]) -> int:
    """The other way round; words that are none of ours are left out."""
    said = set(words)
    return sum(bit for bit, reason in _REASONS.items() if reason in said)


def _memory(found: Any) -> Memory:
    return Memory(int(found.used), int(found.total))


def _processes(found: Any) -> list[Usage]:
    return [Usage(int(p.pid), None if p.usedGpuMemory is None else int(p.usedGpuMemory)) for p in found]


FAST: dict[str, tuple[Way, ...]] = {
    "util": (Way("nvmlDeviceGetUtilizationRates", (), lambda u: float(u.gpu)),),
    # The second version does not count what the driver keeps for itself as used, as nvidia-smi does not.
    "memory": (
        Way("nvmlDeviceGetMemoryInfo", (_MEMORY_V2,), _memory),
        Way("nvmlDeviceGetMemoryInfo", (), _memory),
    ),
    "temp": (Way("nvmlDeviceGetTemperature", (0,), float),),
    "power": (Way("nvmlDeviceGetPowerUsage", (), lambda mw: mw / 1000),),
    "sm_clock": (Way("nvmlDeviceGetClockInfo", (1,), float),),
    "throttle": (
        Way("nvmlDeviceGetCurrentClocksEventReasons", (), reasons),
        Way("nvmlDeviceGetCurrentClocksThrottleReasons", (), reasons),  # its name in drivers before 535
    ),
}
"""Asked every second of the GPUs that the run uses. Percent, bytes, °C, W, MHz, words."""

SLOW: dict[str, tuple[Way, ...]] = {
    "power_limit": (Way("nvmlDeviceGetEnforcedPowerLimit", (), lambda mw: mw / 1000),),
    "energy": (Way("nvmlDeviceGetTotalEnergyConsumption", (), lambda mj: mj / 1000),),
    "ecc": (Way("nvmlDeviceGetTotalEccErrors", (_UNCORRECTED, _VOLATILE), int),),
    "processes": (
        Way("nvmlDeviceGetComputeRunningProcesses_v3", (), _processes),
        Way("nvmlDeviceGetComputeRunningProcesses_v2", (), _processes),
    ),
    "mig": (Way("nvmlDeviceGetMigMode", (), lambda modes: modes[0] == _MIG_ON),),
}
"""Asked every ten seconds. W, joules and uncorrected memory errors since the driver was loaded, processes, MIG on."""

WORDS = {
    "util": "utilisation", "memory": "memory", "temp": "temperature", "power": "power", "power_limit": "power limit",
    "sm_clock": "clock", "throttle": "throttle reasons", "energy": "energy", "ecc": "memory errors",
    "processes": "processes", "mig": "MIG mode",
}  # fmt: skip
"""How a figure is called in a sentence."""
