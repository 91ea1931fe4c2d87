"""Snapshots: copies of the training state in host memory. Which may be restored, which overwritten: PROTOCOL.md."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sitter_agent.feed import Position
from sitter_agent.memory import memory_left
from sitter_agent.progress import Progress
from sitter_agent.state import Adapter
from sitter_agent.stopwatch import Stopwatch

TIME_SHARE = 0.01
"""Of the run's time (DESIGN §6)."""
MEMORY_SHARE = 0.25
"""Of what the cgroup or host leaves at start (DESIGN §6)."""
MOST_SLOTS = 8
"""More would only lie closer together: from seconds to ``HORIZON_S`` they are spread out on a log scale."""
BIG = 2 << 30
"""Bytes above which there are at most two."""
SPACING_S, SPACING_STEPS = 1.0, 20
"""None within so long of the last, whichever is shorter (PROTOCOL.md)."""
HORIZON_S = 900.0
"""An age up to which it is worth keeping the oldest rather than one more of the young."""
SUSPICION_S, SUSPICION_POINTS = 2.0, 10
"""A daemon that is there and has not cleared a snapshot after so long and so many logged points (3 suffice) suspects something."""
PRESSURE_EVERY_S = 10.0
"""Between two looks at how much memory is left: each reads files of the kernel."""


@dataclass(slots=True, eq=False)
class Snapshot:
    """The state of (branch, step) in memory slot ``slot``."""

    slot: int
    captured: object
    """The adapter's copy, in memory that the slot keeps when the snapshot goes."""
    branch: int
    step: int
    micro: int
    at: float
    """Monotonic seconds at which it was begun."""
    points: int
    """Steps that had been logged by then: a daemon that is there has had time to judge once enough followed."""
    nbytes: int = 0
    seconds: float = 0.0
    """Of the training thread, for the copy."""
    cleared: bool = False
    """The daemon vouches for it: healthy steps followed."""
    busy: int = 0
    """How many are writing or restoring it just now."""
    file: str = ""
    """The checkpoint that it was last written to."""
    rng: dict[str, Any] = field(default_factory=dict)
    position: Position | None = None
    scales: dict[str, float] = field(default_factory=dict)
    knobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the framework's knobs all that was commanded, by group and pinned too."""
    own_knobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The same of the script's own, where anything was: ``FreeKnob.settings``."""
    epoch: int | None = None


class Ring:
    """The slots. All methods run on the training thread, but ``release``, which only counts down."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, room: Callable[[], int | None] = memory_left
    ) -> None:
        self._clock, self._room = clock, room
        self._lock = threading.Lock()
        self.slots = 0
        self.bytes_each = 0
        self.held: list[Snapshot] = []
        self._free: list[tuple[int, object]] = []
        self._unused: list[int] = []
        """Slot numbers that have no memory yet."""
        self._last_at = -math.inf
        self._last_step = 0
        self._began = 0.0
        self.spent = 0.0
        """Seconds of the training thread that all of them have cost, with what ``charge`` was told."""
        self._ready_at = 0.0
        """Not before then, or they would cost more than their share since the last."""
        self._cost_fresh = 0.0
        self._cost_reuse: float | None = None
        self._checked = 0.0

    # -- start -----------------------------------------------------------------------------------------------------------

    def prepare(self, nbytes: int) -> str:
        """Decide how many slots there are for states of ``nbytes``; the sentence that says so."""
        self._began = self._checked = self._clock()
        self.bytes_each = nbytes
        room = self._room()
        if nbytes <= 0:
            self.slots = 0
            return "no snapshots: no state is known"
        fit = MOST_SLOTS if room is None else int(room * MEMORY_SHARE) // nbytes
        self.slots = min(fit, 2 if nbytes > BIG else MOST_SLOTS)
        if self.slots < 2:
            self.slots = 0
            self._unused = []
            return f"no snapshots: {size(nbytes)} of state, {size(room or 0)} of memory left; checkpoints serve"
        self._unused = list(range(self.slots))
        return f"snapshots: ≤ {self.slots} × {size(nbytes)} in memory"

    def first(
        self, adapter: Adapter, fill: Callable[[Snapshot], None], progress: Progress, points: int
    ) -> Snapshot | None:
        """The one before the first step, and memory for a second: both cost before the run begins, not of its time."""
        taken = self.take(adapter, fill, progress, points)
        if taken is not None and self._unused:
            self._free.append((self._unused.pop(0), adapter.capture(None)))
        self.spent = 0.0
        self._began = self._clock()
        self._pace(0.0)
        return taken

    # -- taking ----------------------------------------------------------------------------------------------------------

    def may_be_due(self, now: float) -> bool:
        """A look that costs next to nothing, for every step, before ``due`` is asked."""
        return now >= self._ready_at

    def due(self, step: int, points: int, heard: bool) -> bool:
        """Whether one may be taken now: spaced, affordable, and nothing suspected. ``heard``: a daemon is there and speaks."""
        if self.slots == 0:
            return False
        now = self._clock()
        if now < self._ready_at or (now - self._last_at < SPACING_S and step - self._last_step < SPACING_STEPS):
            return False
        return not (heard and self._suspected(now, points))

    def take(
        self,
        adapter: Adapter,
        fill: Callable[[Snapshot], None],
        progress: Progress,
        points: int,
        *,
        any_slot: bool = False,
    ) -> Snapshot | None:
        """Copy the state into the slot that may go. ``fill`` adds what is not the adapter's. None where no slot may go.

        ``any_slot`` also gives up the one snapshot that waits to be cleared (for a checkpoint of the present state).
        """
        found = self._room_for_one(any_slot)
        if found is None:
            return None
        slot, into = found
        began, watch = self._clock(), Stopwatch(self._clock)
        try:
            captured = adapter.capture(into)
            snapshot = Snapshot(
                slot, captured, progress.branch, progress.done, progress.micro, began, points, self.bytes_each
            )
            fill(snapshot)
        except BaseException:  # Ctrl-C too: the slot would be lost for good
            # What was half overwritten is nothing any more; its memory may be used again.
            self._free.append((slot, into))
            raise
        seconds = watch.seconds()
        if into is None:
            self._cost_fresh = seconds
        else:
            self._cost_reuse = seconds if self._cost_reuse is None else 0.7 * self._cost_reuse + 0.3 * seconds
        self.spent += seconds
        snapshot.seconds = seconds
        self.held.append(snapshot)
        self._last_at, self._last_step = self._clock(), progress.done
        self._relieve()
        self._pace(seconds)
        return snapshot

    def charge(self, seconds: float) -> None:
        """The last one has cost so much more than its copy: what goes with it in the safe point, and the steps behind it, whose caches
        it has emptied."""
        self.spent += seconds
        self._ready_at += seconds / TIME_SHARE

    def _pace(self, seconds: float) -> None:
        """One that cost ``seconds`` is paid off in the time behind it, and the next one beforehand where it will cost more. Nothing is
        saved up: an evaluation or a pause of an hour would else be followed by one snapshot after the other."""
        fresh = not self._free and bool(self._unused)
        next_one = self._cost_fresh if fresh or self._cost_reuse is None else self._cost_reuse
        self._ready_at = self._clock() + max(seconds, next_one) / TIME_SHARE

    # -- trust -----------------------------------------------------------------------------------------------------------

    def clear_up_to(self, clear: tuple[int, int] | None, progress: Progress) -> None:
        """Mark what the daemon vouches for: up to (branch, step), and whatever that descends from."""
        if clear is None:
            return
        branch, step = clear
        place = progress.place(branch)
        for s in self.held:
            if s.cleared:
                continue
            if s.branch == branch:
                s.cleared = s.step <= step
            elif place is not None:
                own = progress.place(s.branch)
                s.cleared = own is not None and own < place

    def cleared(self, before: int | None, progress: Progress) -> list[Snapshot]:
        """On the present line, at or before a step, the newest first."""
        found = [s for s in self.held if s.cleared and self._fits(s, progress) and (before is None or s.step <= before)]
        return sorted(found, key=lambda s: s.at, reverse=True)

    def newest_cleared(self, before: int | None, progress: Progress) -> Snapshot | None:
        """The first of ``cleared``; None where there is none."""
        return next(iter(self.cleared(before, progress)), None)

    def at_step(self, step: int, progress: Progress) -> Snapshot | None:
        """The newest of exactly this step on the present line, cleared or not."""
        return max(
            (s for s in self.held if s.step == step and self._fits(s, progress)), key=lambda s: s.at, default=None
        )

    def steps(self, progress: Progress) -> list[int]:
        """What ``at_step`` could find."""
        return sorted({s.step for s in self.held if self._fits(s, progress)})

    def keep_line(self, progress: Progress) -> None:
        """After a restore: whatever is not on the present line is discarded; its memory stays."""
        with self._lock:
            for s in list(self.held):
                if not self._fits(s, progress):
                    self.held.remove(s)
                    if s.busy == 0:
                        self._free.append((s.slot, s.captured))
                    else:
                        self._unused.append(s.slot)  # whoever still writes it lets go of that memory when done
        self._last_step = min(self._last_step, progress.done)

    def hold_newest(self, progress: Progress) -> Snapshot | None:
        """The newest cleared one, else the newest, held as by ``hold``; None where there is none. From any thread, while the training
        thread may be taking another."""
        with self._lock:
            mine = [s for s in self.held if self._fits(s, progress)]
            found = max([s for s in mine if s.cleared] or mine, key=lambda s: s.at, default=None)
            if found is not None:
                found.busy += 1
            return found

    def hold(self, snapshot: Snapshot) -> None:
        """It is being written or restored: it may not be overwritten until ``release``."""
        with self._lock:
            snapshot.busy += 1

    def release(self, snapshot: Snapshot) -> None:
        """The writer, or a restore, is done with it. From any thread."""
        with self._lock:
            snapshot.busy -= 1

    def drop_all(self) -> None:
        """Give all memory back."""
        self.held.clear()
        self._free.clear()
        self._unused.clear()
        self.slots = 0

    # -- inside ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def _fits(s: Snapshot, progress: Progress) -> bool:
        return progress.on_line(s.branch, s.step)

    def _suspected(self, now: float, points: int) -> bool:
        waiting = [s for s in self.held if not s.cleared]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda s: s.at)
        return now - oldest.at >= SUSPICION_S and points - oldest.points >= SUSPICION_POINTS

    def _room_for_one(self, any_slot: bool) -> tuple[int, object | None] | None:
        if self._free:
            return self._free.pop()
        if self._unused:
            return self._unused.pop(0), None
        with self._lock:
            victim = self._victim(any_slot)
            if victim is None:
                return None
            self.held.remove(victim)
            return victim.slot, victim.captured

    def _victim(self, any_slot: bool) -> Snapshot | None:
        by_age = sorted(self.held, key=lambda s: s.at)
        cleared = [s for s in by_age if s.cleared]
        older = [s for s in cleared[:-1] if s.busy == 0]
        if older:
            return min(older, key=lambda s: self._worth(s, by_age))
        waiting = [s for s in by_age if not s.cleared and s.busy == 0]
        if not waiting or (len(waiting) == 1 and cleared and not any_slot):
            # The only one that waits is left to be cleared: overwritten each time, none ever would be.
            return None
        return waiting[-1]

    def _worth(self, s: Snapshot, by_age: list[Snapshot]) -> float:
        """How wide a gap its loss would leave, on a log scale of ages: what is left is spread over seconds and minutes."""
        now, i = self._clock(), by_age.index(s)
        younger = max(now - by_age[i + 1].at, 1e-3)
        older = now - by_age[i - 1].at if i else max(2 * (now - s.at), HORIZON_S)
        return math.log(max(older, 1e-3) / younger)

    def _relieve(self) -> None:
        """Under memory pressure one slot is given back, down to two."""
        now = self._clock()
        if now - self._checked < PRESSURE_EVERY_S:
            return
        self._checked = now
        room = self._room()
        if room is None or room > self.bytes_each or self.slots <= 2:
            return
        victim = None if self._unused or self._free else self._victim(False)
        if self._unused:
            self._unused.pop()
        elif self._free:
            self._free.pop()
        elif victim is not None:
            self.held.remove(victim)
        else:
            return
        self.slots -= 1


def size(n: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" or n >= 10 else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
