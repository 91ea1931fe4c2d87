"""What of the machine is kept in the history, and how it is read again, so that a replay sees what the rules saw.

A look is a row of numbers (``gpu0.util``, ``host.cpu`` …); what it lacks was not known then. What is known in words (which GPUs there are,
whose they are, what the driver notes and reports of them) is kept where it has changed, and says what holds from then on.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from sitter.host.figures import bits_of, reasons
from sitter.host.sampler import HostSample
from sitter.model import GpuNow, HostNow

FAST = ("util", "mem_used", "temp", "power", "sm_clock")
"""Of each GPU at each look; and ``throttle``, as the driver's bits."""
SLOW = ("mem_total", "power_limit", "energy", "ecc_errors")
"""Of each GPU at those looks at which the host is read as well."""
OF_HOST = tuple(name for name in HostNow.__struct_fields__ if name != "gpu_note")
WHOLE_NUMBERS = frozenset({"mem_used", "mem_total", "disk_free", "disk_total", "train_rss", "ecc_errors"})


class Keeper:
    """One daemon's. Told of every look; says what of it is to be kept."""

    def __init__(self) -> None:
        self._words: list[GpuNow] | None = None

    def keep(self, sample: HostSample) -> tuple[list[GpuNow] | None, dict[str, float | None]]:
        """The GPUs in words, where they are not as before, and the figures of the run's GPUs and of the host by signal name."""
        words = [_in_words(gpu) for gpu in sample.gpus]
        new = words if words != self._words else None
        self._words = words
        whole = sample.fresh or new is not None
        figures: dict[str, float | None] = {}
        for gpu in sample.gpus:
            if gpu.used_by_run is not False:
                figures |= _figures(gpu, whole=whole)
        if whole:
            figures |= {f"host.{name}": getattr(sample.host, name) for name in OF_HOST}
        return new, figures


def _in_words(gpu: GpuNow) -> GpuNow:
    """Without figures."""
    return GpuNow(index=gpu.index, uuid=gpu.uuid, name=gpu.name, note=gpu.note, used_by_run=gpu.used_by_run, xids=gpu.xids)


def _figures(gpu: GpuNow, *, whole: bool) -> dict[str, float | None]:
    found: dict[str, float | None] = {f"gpu{gpu.index}.{name}": getattr(gpu, name) for name in (FAST + SLOW if whole else FAST)}
    answers = any(getattr(gpu, name) is not None for name in FAST)  # else it is not known whether anything holds it back
    found[f"gpu{gpu.index}.throttle"] = float(bits_of(gpu.throttle)) if answers else None
    return found


class Looks:
    """What was kept, look by look in the order of time, as the machine that the rules saw."""

    def __init__(self) -> None:
        self._words: dict[int, GpuNow] = {}
        self._gpus: dict[int, dict[str, float]] = {}
        self._host: HostNow | None = None

    def words(self, gpus: list[GpuNow]) -> None:
        """These are the GPUs from now on; the figures of this look follow."""
        self._words = {gpu.index: gpu for gpu in gpus}
        self._gpus.clear()

    def figures(self, row: Mapping[str, float]) -> None:
        """A row of numbers."""
        told: dict[str, dict[str, float]] = {}
        for name, value in row.items():
            whose, _, what = name.partition(".")
            told.setdefault(whose, {})[what] = value
        host = told.pop("host", None)
        if host is not None:
            self._host = HostNow(**_typed({name: value for name, value in host.items() if name in OF_HOST}))
        for whose, its in told.items():
            if whose[3:].isdigit():
                self._gpus.setdefault(int(whose[3:]), {}).update(its)
        for index, known in self._gpus.items():
            now = told.get(f"gpu{index}", {})
            for name in [name for name in known if name not in now and (host is not None or name not in SLOW)]:
                del known[name]

    @property
    def host(self) -> HostNow | None:
        """None before it was read."""
        return self._host

    @property
    def gpus(self) -> list[GpuNow]:
        """As they were; of a history that has no words of them, as the run's own."""
        return [self._gpu(index) for index in sorted(self._words or self._gpus)]

    def _gpu(self, index: int) -> GpuNow:
        words = self._words.get(index) or GpuNow(index=index, uuid=f"gpu{index}", name="", used_by_run=True)
        figures = self._gpus.get(index, {})
        its: dict[str, Any] = _typed({name: value for name, value in figures.items() if name in FAST + SLOW})
        return msgspec.structs.replace(words, throttle=reasons(int(figures.get("throttle", 0.0))), **its)


def _typed(figures: dict[str, float]) -> dict[str, Any]:
    return {name: int(value) if name in WHOLE_NUMBERS else value for name, value in figures.items()}
