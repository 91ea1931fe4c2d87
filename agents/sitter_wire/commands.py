"""Actions, the commands that carry them to the agent, and the outcomes that come back.

A command is idempotent by its id: the agent remembers every id it has answered and repeats the recorded outcome, so a
re-send after a restart cannot halve a rate twice.
"""

from typing import Literal

import msgspec

from sitter_wire.bounds import Count, Finite, Name, Whole


class Action(msgspec.Struct, frozen=True, kw_only=True, tag_field="do"):
    """What could be done. Subclasses are the whole list; see ``AnyAction``."""


class SetKnob(Action, frozen=True, tag="set"):
    """Change a knob. ``op`` says whether ``amount`` multiplies the present value or replaces it.

    ``group`` names one parameter group (None = all). ``hold`` pins an absolute value against the schedule.
    ``expect`` is the effective value that the sender believed to hold; a mismatch beyond 1e-6 relative is rejected.
    """

    knob: Name
    op: Literal["scale", "value"]
    amount: float
    group: Name | None = None
    hold: bool = False
    expect: float | None = None


class Rollback(Action, frozen=True, tag="rollback"):
    """Go back to the newest good state.

    ``before`` asks for the newest cleared state at or before that step (None = newest cleared of all); ``to`` names one
    step exactly (operator). ``replay`` rewinds the data as well. ``unless_finite``: if parameters and optimizer state are
    all finite, refuse, since then the logged value is at fault and not the model. ``also_scale`` multiplies knob scales
    in the same safe point, after the restore.
    """

    before: Whole | None = None
    to: Whole | None = None
    replay: bool = False
    unless_finite: bool = False
    also_scale: dict[Name, float] = {}
    why: str = ""


class TakeCheckpoint(Action, frozen=True, tag="checkpoint"):
    """Write a durable checkpoint. ``cleared`` writes the newest cleared snapshot, else the present state."""

    why: str = ""
    cleared: bool = False
    pinned: bool = False


class DropBatches(Action, frozen=True, tag="drop"):
    """Discard the next ``count`` batches of ``agent.loop`` / ``agent.batches``."""

    count: Count


class Pause(Action, frozen=True, tag="pause"):
    """Wait inside the safe point. ``hold`` waits on even when no daemon has been heard for 60 s. ``free`` writes a checkpoint and gives the
    GPU's memory back meanwhile; an agent of a version that does not know it pauses all the same, and its outcome says nothing of it."""

    hold: bool = False
    free: bool = False


class Unpause(Action, frozen=True, tag="unpause"):
    """End a pause."""


class Stop(Action, frozen=True, tag="stop"):
    """End the training at the next safe point; ``checkpoint`` writes one first."""

    checkpoint: bool = False
    why: str = ""


class DumpStacks(Action, frozen=True, tag="stacks"):
    """Report the stacks of all threads; answered by the control thread, needs no safe point."""


AnyAction = SetKnob | Rollback | TakeCheckpoint | DropBatches | Pause | Unpause | Stop | DumpStacks

FROZEN_ACTIONS: tuple[type[Action], ...] = (Pause, Unpause, Stop)
"""Understood by every protocol version, past and future."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One action sent to one session. ``deadline`` is CLOCK_MONOTONIC seconds of this host; past it the agent answers
    ``expired``. ``branch`` None means whatever branch is present. ``by`` is ``operator`` or ``rule:NAME``. ``at``: it waits for the safe
    point of this step (an agent of a version that does not know it carries it out at once)."""

    id: Name
    session: Name
    action: AnyAction
    deadline: Finite
    branch: Whole | None = None
    by: Name = "operator"
    at: Whole | None = None


OutcomeStatus = Literal["applied", "rejected", "expired"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command, said by the agent. ``detail`` holds numbers: old, new, step went back to, bytes…"""

    id: Name
    status: OutcomeStatus
    step: Whole
    branch: Whole
    text: str
    detail: dict[str, float | int | str | bool | list[str] | None] = {}
