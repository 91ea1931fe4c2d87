"""What is told: samples and events in order, and how the time passed between them."""

from collections.abc import Iterator
from dataclasses import dataclass

from sitter.model import GpuNow, HostNow
from sitter.rules.view import Sample
from sitter_wire.records import Happening


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine's figures from a time (seconds) on. No host and no GPUs: nobody looked."""

    time: float
    host: HostNow | None
    gpus: list[GpuNow]


@dataclass(frozen=True, slots=True)
class Began:
    """A process of the training began, or ended (``alive`` False), at a time (seconds)."""

    time: float
    session: str = ""
    alive: bool = True


Item = Sample | Happening | Machine | Began


@dataclass(frozen=True, slots=True)
class Story:
    """``timed``: the times are the data's own; without that a step is taken for a second, and no second ticks."""

    name: str
    items: Iterator[Item]
    timed: bool
    goal: str | None = None
    better: str = "lower"
