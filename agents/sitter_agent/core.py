"""What one session holds together. The parts know this and not each other; ``agent.start`` fills it."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from sitter_agent.checkpoints import Vault
from sitter_agent.feed import Feed
from sitter_agent.generic_state import GenericAdapter
from sitter_agent.guard_rail import GuardRail
from sitter_agent.knobs import FreeKnob
from sitter_agent.progress import Progress
from sitter_agent.quick import Put
from sitter_agent.snapshots import Ring
from sitter_agent.state import Adapter, Knob, RestoreHook
from sitter_agent.tensors import Lot, Pending
from sitter_wire.commands import Outcome
from sitter_wire.events import AnyEvent, KnobDeclared, Remark
from sitter_wire.layer_names import of_layer
from sitter_wire.places import RunDir


class Recording(Protocol):
    """What is needed of ``sitter_agent.recorder.Recorder``. ``dropped``: values that were not kept, as the status tells."""

    dropped: int

    def log(self, step: int, branch: int, values: dict[str, object]) -> None:
        """Values of one step."""
        ...

    def short_way(self, names: tuple[str, ...]) -> Put | None:
        """The same for exact floats under names that were logged before; None where it is not to be had."""
        ...

    def event(self, event: AnyEvent, step: int, branch: int) -> int:
        """An event; its sequence number."""
        ...


class Talking(Protocol):
    """What is needed of ``sitter_agent.link.Link``."""

    @property
    def clear(self) -> tuple[int, int] | None:
        """(branch, step) up to which snapshots may be trusted."""
        ...

    @property
    def last_heard(self) -> float | None:
        """Monotonic seconds of the daemon's last word; None: never."""
        ...

    def ship(self) -> None:
        """Send what is new."""
        ...

    def answer(self, outcome: Outcome) -> None:
        """The fast copy of an outcome."""
        ...


class Core:
    """One session's parts and where the training stands."""

    def __init__(
        self, *, run: RunDir, session: str, recorder: Recording, rail: GuardRail, new_branch: Callable[[], int], branch: int,
        vault: Vault, ring: Ring, clock: Callable[[], float] = time.monotonic, pause_gives_way_s: float = 60.0,
    ) -> None:  # fmt: skip
        self.run, self.session, self.recorder, self.rail = run, session, recorder, rail
        self.new_branch, self.vault, self.ring, self.clock = new_branch, vault, ring, clock
        self.pause_gives_way_s = pause_gives_way_s
        self.link: Talking | None = None
        self.progress = Progress(branch=branch, line=[(branch, 0)])
        self.generic = GenericAdapter()
        self.adapter: Adapter = self.generic
        self.free_knobs: dict[str, FreeKnob] = {}
        self.knobs_to_come: dict[str, dict[str, Any]] = {}
        """After a resume: what the run had done to knobs of the script's own (``FreeKnob.settings``) that are not declared yet."""
        self.hooks: list[RestoreHook] = []
        self.feed: Feed | None = None
        self.pending = Pending(self._arrived, self._lost)
        self.logged: set[str] = set()
        """Names that the script logs itself: those are not taken from the framework as well."""
        self.goal: str | None = None
        self.goal_value: float | None = None
        self.snapshots_ready = False
        self.position_unknown = False
        """The loader failed to say where it stands, and that was told."""
        self.loader_waits: Any = None
        """A ``loader_position.Waiting`` after a resume, until the loader is known."""
        self.interrupt: BaseException | None = None
        """What came up in the midst of something that had to be whole first; raised when the command is answered."""
        self.away = ""
        """While the state lies in host memory (``parking``): the sentence that says so. Nothing may read or write it then."""

    def lot(self, step: int, lot: Lot) -> None:
        """What was seen of the layers, unless the script logs its own."""
        if not any(map(of_layer, self.logged)):
            self.pending.add_lot(step, self.progress.branch, lot)

    def _arrived(self, step: int, branch: int, values: dict[str, float]) -> None:
        """Values that had to come from a GPU."""
        if self.goal in values:
            self.goal_value = values[self.goal]
        self.recorder.log(step, branch, values)  # type: ignore[arg-type]

    def _lost(self) -> None:
        self.recorder.dropped += 1

    def event(self, event: AnyEvent) -> int:
        """Record an event here and now."""
        return self.recorder.event(event, self.progress.done, self.progress.branch)

    def remark(self, text: str, level: str = "info") -> None:
        """One sentence for the logbook."""
        self.event(Remark(text=text, level="warning" if level == "warning" else "info"))

    def knobs(self) -> dict[str, Knob]:
        """All that may be changed, by name; the framework's win over the script's of the same name."""
        found: dict[str, Knob] = dict(self.free_knobs)
        found.update({k.spec.name: k for k in self.adapter.knobs()})
        return found

    def declare_knobs(self) -> None:
        """Tell of the framework's knobs."""
        for knob in self.adapter.knobs():
            self.event(KnobDeclared(spec=knob.spec))

    def has_state(self) -> bool:
        """Whether anything can be captured."""
        return self.adapter is not self.generic or self.generic.known

    def heard(self, within: float) -> bool:
        """Whether a daemon spoke in the last ``within`` seconds."""
        last = self.link.last_heard if self.link is not None else None
        return last is not None and self.clock() - last <= within

    def clear(self) -> tuple[int, int] | None:
        """(branch, step) up to which the daemon vouches, as last heard."""
        return self.link.clear if self.link is not None else None
