"""What an expression may ask beside the logged signals: where the run is, the machine, the GPUs."""

import re
from collections.abc import Callable

from sitter.model import GpuNow, HostNow
from sitter.rules.view import RunView

Fact = Callable[[RunView], float | None]


def _progress(view: RunView) -> float | None:
    return view.step / view.total if view.step is not None and view.total else None


def _hours(view: RunView) -> float | None:
    return (view.clock.monotonic() - view.started) / 3600.0 if view.started is not None else None


RUN: dict[str, Fact] = {
    "step": lambda view: view.step,
    "total": lambda view: view.total,
    "progress": _progress,
    "hours": _hours,
    "rate": lambda view: view.steps_per_s,
}
"""``step``, ``total`` (optimizer steps), ``progress`` (0 to 1), ``hours`` of this session, ``rate`` (steps/s)."""

BY_STEP = frozenset({"step", "total", "progress"})
"""Those that change with the steps, and not with the seconds."""

OF_HOST = tuple(name for name in HostNow.__struct_fields__ if name != "gpu_note")
"""``host.cpu`` (percent), ``host.mem_used``, ``host.mem_total``, ``host.disk_free`` (bytes)…"""
OF_GPU = ("util", "mem_used", "mem_total", "temp", "power", "power_limit", "sm_clock", "ecc_errors")
"""``gpu0.temp`` (°C), ``gpu0.util`` (percent), ``gpu0.power`` (watts), ``gpu0.mem_used`` (bytes)…; ``gpu.temp``: of the run's first GPU."""

_GPU = re.compile(r"gpu(\d*)\.(\w+)")


def fact(name: str) -> Fact | None:
    """How to read it; None where there is no fact of that name."""
    if name in RUN:
        return RUN[name]
    head, _, tail = name.partition(".")
    if head == "host" and tail in OF_HOST:
        return lambda view: _number(getattr(view.host, tail, None))
    found = _GPU.fullmatch(name)
    if found is None or found[2] not in OF_GPU:
        return None
    number, attribute = found[1], found[2]
    return lambda view: _number(getattr(_gpu(view, number), attribute, None))


def names() -> list[str]:
    """All of them, for hints; of the GPUs the first."""
    return [*RUN, *(f"host.{name}" for name in OF_HOST), *(f"gpu0.{name}" for name in OF_GPU)]


def _gpu(view: RunView, number: str) -> GpuNow | None:
    if number:
        return next((gpu for gpu in view.gpus if gpu.index == int(number)), None)
    return next((gpu for gpu in view.gpus if gpu.used_by_run is not False), None)


def _number(value: float | int | None) -> float | None:
    return None if value is None else float(value)
