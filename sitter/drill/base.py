"""What a fault is: something to plant, what must be noticed of it, and what must hold at the end."""

import abc
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from sitter.drill.scene import Scene
from sitter.drill.settings import Settings
from sitter.model import Struct


class Planted(Struct, frozen=True):
    """``what``: a sentence's end; ``at``: unix seconds; ``step``: the first that has it."""

    what: str
    at: float
    step: int | None = None


class Noticed(Struct, frozen=True):
    """What sitter said, in its words. ``at``: unix seconds."""

    what: str
    at: float


class Ended(Struct, frozen=True):
    """What sitter did, how it ended, what it cost. ``steps_lost``: steps that were made and are not in the training's state any more."""

    did: str
    how: str
    steps_lost: int


class Fault(abc.ABC):
    """One drill. The three methods are called in turn, each raises ``Failed`` with what was expected and did not come."""

    name: ClassVar[str]
    title: ClassVar[str]
    """One sentence for the list."""
    own: ClassVar[bool] = False
    """Whether it works on the user's own command as well."""
    settings: ClassVar[Settings] = {}
    restart: ClassVar[int] = 0
    """As of ``sitter run --restart``."""
    told: ClassVar[str] = ""
    """What SITTER_DRILL says to the agent; empty: nothing is planted from inside."""
    builtin_plant: ClassVar[str] = ""
    """For the built-in model, in the words of ``sitter_demo.plants``."""
    kill_after_s: ClassVar[float] = 10.0
    """A training that does not obey the stop at the end is killed after so long; one that hangs cannot obey."""

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """The directory in which the drill is held. Raises NotHeldError where it cannot be had."""
        yield Path.cwd()

    @abc.abstractmethod
    def plant(self, scene: Scene) -> Planted:
        """Once the training is under way and there is something to go back to."""

    @abc.abstractmethod
    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """What must be noticed."""

    @abc.abstractmethod
    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """What must hold at the end."""
