"""What rules are given: one sample per logged point, and the facts about the run that the daemon keeps current."""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from sitter.clock import Clock, SystemClock
from sitter.model import CheckpointInfo, GpuNow, HostNow, State
from sitter.vitals import Stood, Vitals


class Sample(msgspec.Struct, frozen=True, gc=False):
    """Values that were logged together. ``time`` is monotonic seconds; names are canonical (``loss``, ``val_loss``, ``grad_norm``,
    ``lr`` = effective, ``lr_scheduled``, ``step_time``, ``data_wait``, and whatever else the user logs)."""

    step: int
    branch: int
    time: float
    values: dict[str, float]


@dataclass(slots=True)
class RunView:
    """Facts about the run. The daemon writes them, rules only read. None is unknown."""

    goal: str | None = None
    """Name of the goal signal."""

    better: Literal["lower", "higher"] = "lower"
    kind: str = "supervised"
    """``supervised``, ``rl`` or ``gan``, as the script said at start, else by the names of what it logs."""

    kind_said: bool = False
    """The script said so at start: then the names say nothing more."""

    kind_by_names: bool = False
    """It was not said, but taken from what is logged."""

    clips: bool = False
    """Gradients are clipped, so that a large norm before clipping does no harm."""

    total: int | None = None
    """Optimizer steps that the loop will take."""

    scales: dict[str, float] = field(default_factory=dict)
    """Scale of every knob the agent has declared; a knob that is missing here cannot be set."""

    host: HostNow | None = None
    gpus: list[GpuNow] = field(default_factory=list)
    checkpoints: list[CheckpointInfo] = field(default_factory=list)
    """Those on disk, oldest first."""

    safe_point_age: float | None = None
    """Seconds since the last safe point, as the agent's control thread says; it answers also while the loop does not turn."""

    agent_age: float | None = None
    """Seconds since the agent's last word."""

    phase: str = ""
    """In which part of a turn the training is (``sitter_wire.phases``); empty: the agent does not say."""

    vitals: Vitals | None = None
    """What the kernel says of the process over the last seconds; looked at only while nothing comes from the training."""

    stood: Stood | None = None
    """The stacks that were taken last, of this session."""

    paused: bool = False
    state: State = "starting"
    step: int | None = None
    branch: int = 0
    steps_per_s: float | None = None
    started: float | None = None
    """Monotonic seconds at which the present session began."""

    in_session: bool = False
    """A training process is known to live and to be past its start."""

    late: bool = False
    """The newest sample is of the past, so that nothing can be proposed. Kept by the engine."""

    clock: Clock = field(default_factory=SystemClock)
