"""The seam between the agent's core and whatever holds the training state: one adapter per framework."""

from collections.abc import Callable
from typing import Any, BinaryIO, Literal, Protocol

from sitter_agent.own_state import Loaded
from sitter_wire.events import KnobSpec


class Knob(Protocol):
    """Something that may be changed in flight. Shown is ``scheduled × scale = effective``."""

    spec: KnobSpec
    scale: float
    held: bool

    def scheduled(self) -> float:
        """What the user's own code or schedule asks for now (first group)."""
        ...

    def effective(self) -> float:
        """What is used: scheduled × scale, or the held value."""
        ...

    @property
    def waits(self) -> bool:
        """Whether asking for its value would wait for a device."""
        ...

    def change(self, op: Literal["scale", "value"], amount: float, *, group: str | None, hold: bool) -> tuple[float, float]:
        """Apply a change and return (old, new) effective values. Raises ValueError with one sentence where it is refused
        (out of bounds, groups differ, no effect with this optimizer); then nothing has changed."""
        ...


class Parked(Protocol):
    """What of a state can be moved to host memory for a while, and back. ``nbytes`` of it; ``freed``: so much is given back by that."""

    nbytes: int
    freed: int

    def no_room(self, need: int = 0) -> str:
        """Why the host cannot take it, or ``need`` bytes where that is more; empty where it can."""
        ...

    def go(self) -> None:
        """Move it. Raises MemoryError where the host has no room; then nothing was moved."""
        ...

    def back(self) -> None:
        """Every bit where it was, every object the same. Raises MemoryError where there is no room; then nothing has changed."""
        ...

    def strand(self) -> None:
        """No more room will come: the same tensors, with their values in host memory."""
        ...


class Adapter(Protocol):
    """The state of one framework. All methods run on the training thread at a safe point, but ``save`` and ``load``."""

    name: str

    def nbytes(self) -> int:
        """Bytes of host memory that one capture takes."""
        ...

    def capture(self, into: object | None) -> object:
        """A copy of everything in host memory. ``into`` is an earlier capture whose memory is reused where shapes fit."""
        ...

    def restore(self, captured: object) -> list[str]:
        """Put a capture back in place, dropping gradients and any optimizer state it lacks. The capture stays intact.

        Returns, in words, what could not be put back (empty: everything was)."""
        ...

    def finite(self) -> bool:
        """Whether all parameters, buffers and optimizer state are finite."""
        ...

    def sound(self, captured: object) -> bool:
        """``finite`` of a capture. Takes about as long as a restore."""
        ...

    def park(self) -> tuple[Parked | None, str]:
        """What could be moved off the GPU while paused; None with the sentence why nothing can."""
        ...

    def save(self, captured: object, file: BinaryIO, meta: dict[str, object]) -> None:
        """Write a capture so that it can be read without sitter. Runs on the writer thread."""
        ...

    def load(self, file: BinaryIO) -> tuple[object, dict[str, object]]:
        """Read what ``save`` wrote: a capture for ``restore``, and its meta. Raises ValueError where it is damaged."""
        ...

    def knobs(self) -> list[Knob]:
        """The knobs this framework offers."""
        ...

    def loaded(self) -> Loaded:
        """What the script has loaded itself, asked before the first step."""
        ...

    def steps_done(self) -> int | None:
        """Optimizer steps seen so far by the hooks; None where no optimizer is known (then every turn is a step)."""
        ...

    def sample(self, step: int) -> dict[str, Any]:
        """Signals the framework offers by itself at this safe point: ``lr`` (scheduled × scale), ``grad_norm`` when it was taken…

        Floats, tensors of one element, and under a name that does not matter a ``Lot`` (``sitter_agent.tensors``).
        """
        ...

    def remarks(self) -> list[str]:
        """Sentences for the operator found at start: an EMA that is not covered, a partial effect of the rate…"""
        ...

    def tell_to(self, tell: Callable[[str], object]) -> None:
        """Whatever has to be said from now on, while the training goes on, goes there: one sentence, on any thread, and it never raises."""
        ...

    def rest(self) -> None:
        """The session is over while its loop still runs: change nothing any more, and go on counting steps."""
        ...

    def close(self) -> None:
        """Take off every hook."""
        ...


RestoreHook = Callable[[int], None]
"""The user's own: called with the step that was gone back to."""
