"""Events: records that are not points. They share the recorder's sequence, so their order against values is certain."""

from typing import Literal

import msgspec

from sitter_wire.bounds import Small, Whole
from sitter_wire.commands import Outcome


class KnobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A knob as declared: bounds are on the effective value (torch: of each group), ``scale`` how it moves.

    ``relative_only`` says an absolute value is refused without naming a group. ``note`` says where its effect is partial.
    """

    name: str
    low: float
    high: float
    scale: Literal["log", "log1m", "linear", "pow2"] = "linear"
    groups: list[str] = []
    note: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something that happened in the training process."""


KINDS = ("supervised", "rl", "gan")
"""Of training: in the latter two a loss says little of how well it goes."""


class SessionStart(Event, frozen=True, tag="start"):
    """The first record of a session. ``total`` in optimizer steps; ``resumed`` = (branch, step) it was restored from.
    ``kind``: one of ``KINDS``; empty: the script did not say. ``stacks_signal``: as a pong says it, for a daemon that never gets one.
    """

    pid: Small
    host: str
    branch: Whole
    argv: list[str] = []
    versions: dict[str, str] = {}
    goal: str | None = None
    better: Literal["lower", "higher"] = "lower"
    kind: str = ""
    total: Whole | None = None
    resumed: tuple[Whole, Whole] | None = None
    gpus: list[str] = []
    clips: bool = False
    stacks_signal: Small = 0


class LoopStart(Event, frozen=True, tag="loop"):
    """The loop told its length: ``total`` optimizer steps, or None where it is not known. ``epochs`` where it counts so.
    ``workers``: processes that its loader reads with, where the loader says so.
    """

    total: Whole | None = None
    epochs: Whole | None = None
    step: Whole = 0
    workers: Whole | None = None


class KnobDeclared(Event, frozen=True, tag="knob"):
    """A knob exists from now on."""

    spec: KnobSpec


class KnobChanged(Event, frozen=True, tag="knob_changed"):
    """A knob's scale or held value changed; ``old`` and ``new`` are effective values of the first group."""

    knob: str
    old: float
    new: float
    scale: float
    held: bool = False
    by: str = ""


class SnapshotTaken(Event, frozen=True, tag="snapshot"):
    """A snapshot of (branch, step) lies in memory slot ``slot``."""

    slot: Whole
    branch: Whole
    step: Whole
    bytes: Whole
    seconds: float


class Restored(Event, frozen=True, tag="restored"):
    """The state of (from_branch, step) was put back; ``branch`` is the new branch that starts after ``step``.

    ``left`` is the last step of the branch that was abandoned. ``missing`` says in words what could not be put back.
    """

    branch: Whole
    step: Whole
    from_branch: Whole
    left: Whole
    source: Literal["snapshot", "checkpoint"]
    replay: bool = False
    missing: list[str] = []


class CheckpointWritten(Event, frozen=True, tag="checkpoint"):
    """A checkpoint of (branch, step) is on disk under ``path`` (relative to the run directory)."""

    branch: Whole
    step: Whole
    path: str
    bytes: Whole
    sha256: str
    verified: bool
    cleared: bool
    pinned: bool = False
    seconds: float = 0.0
    why: str = ""


class CheckpointFailed(Event, frozen=True, tag="checkpoint_failed"):
    """A checkpoint was asked for and is not there."""

    branch: Whole
    step: Whole
    why: str


class CheckpointRemoved(Event, frozen=True, tag="checkpoint_removed"):
    """A checkpoint was deleted by retention."""

    path: str
    why: str = ""


class Done(Event, frozen=True, tag="outcome"):
    """The outcome of a command, in the recorder so that it survives the daemon."""

    outcome: Outcome


class Paused(Event, frozen=True, tag="paused"):
    """The training waits (or goes on again) inside a safe point."""

    paused: bool
    why: str = ""


class Gap(Event, frozen=True, tag="gap"):
    """Records ``first``…``last`` of this session's sequence are gone: dropped at the cap, or never writable."""

    first: Whole
    last: Whole
    why: str


class Hole(Event, frozen=True, tag="hole"):
    """A slot that was reserved and never filled (an exception between the two)."""


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader makes of an event that this version does not understand: of a kind that a newer agent has, or with a value that it did
    not have before. It is no kind of its own and is never written. ``payload`` is the event as it came, for a version that knows it;
    ``why`` is what was not understood.
    """

    kind: str
    payload: bytes
    why: str


class DamagedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader makes of a record that was committed, and of which it can only tell that it stood there: its bytes are damaged. Never
    written, and nothing of it is believed but its sequence number."""

    why: str


class Remark(Event, frozen=True, tag="remark"):
    """One sentence from the agent for the logbook."""

    text: str
    level: Literal["info", "warning"] = "info"


class Preempted(Event, frozen=True, tag="preempted"):
    """A notice from outside (``signal``, by name) was taken at a safe point; ``text`` says what became of its checkpoint.

    What follows is what the script does with that signal, most often its end.
    """

    signal: str
    text: str


class GoodBye(Event, frozen=True, tag="goodbye"):
    """The loop ended: ``total`` reached it, ``stopped`` by command, ``left early`` otherwise (break or exception). ``crashed``: the script
    ended by an exception, and ``why`` names it; this comes last, whatever was said before."""

    how: Literal["total", "stopped", "left early", "closed", "crashed"]
    why: str = ""


AnyEvent = (
    SessionStart
    | LoopStart
    | KnobDeclared
    | KnobChanged
    | SnapshotTaken
    | Restored
    | CheckpointWritten
    | CheckpointFailed
    | CheckpointRemoved
    | Done
    | Paused
    | Gap
    | Hole
    | Remark
    | Preempted
    | GoodBye
)
