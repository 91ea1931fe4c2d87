"""The loader, iterated again and again, with its position: so that batches can be dropped, and rewound for a replay."""

import copy
import weakref
from collections.abc import Iterator
from typing import Any

from sitter_agent import rng
from sitter_agent.handlers import raised_by_handler


class Position:
    """Where a feed stood: passes begun, batches taken of the present one, and what it takes to come back there."""

    __slots__ = ("at_start", "feed", "loader_state", "own", "own_at_start", "passes", "taken")

    def __init__(
        self,
        feed: "Feed",
        passes: int,
        taken: int,
        at_start: dict[str, Any] | None,
        own_at_start: list[Any],
        own: list[Any],
        loader_state: Any,
    ) -> None:
        self.feed = weakref.ref(feed)
        self.passes, self.taken = passes, taken
        self.at_start, self.own_at_start, self.own = at_start, own_at_start, own
        """Random states: the process's at the beginning of the pass (None: none had begun), those of the loader's own generators then,
        and of these now."""
        self.loader_state = loader_state
        """What the loader's ``state_dict`` said; None where it has none."""


class Feed:
    """Batches of any iterable. ``passes`` counts from 0; None of its methods but ``next_batch`` runs the loader unasked.

    Exceptions of the loader itself are the script's and pass through.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.passes = 0
        self.taken = 0
        """Batches of this pass."""
        self.drop = 0
        """So many of the next batches are passed over."""
        self.dropped = 0
        self.at_pass_end = False
        """The pass is over, and the loop has yet to be told."""
        self._it: Iterator[Any] | None = None
        self._one_shot = False
        """The loader is its own iterator: begun again, it would go on."""
        self.stateful = _can_tell(loader)
        """Whether it can tell where it stands, and be put there."""
        self._unknown = False
        """Whether the random state at the beginning of the pass could not be read."""
        try:
            self._generators = rng.generators_of(loader)
        except Exception as e:  # a strange loader must still be iterated
            if raised_by_handler(e):
                raise
            self._generators, self._unknown = [], True
        self._at_start: dict[str, Any] | None = None
        self._own_at_start: list[Any] = []

    def next_batch(self, *, one_pass: bool = False) -> tuple[bool, Any]:
        """(True, batch), or (False, None) at the end: of the pass where ``one_pass``, else where a whole pass yields nothing."""
        while True:
            if self._it is None:
                if one_pass and self.at_pass_end:
                    self.at_pass_end = False
                    return False, None
                self._begin()
            assert self._it is not None
            try:
                batch = next(self._it)
            except StopIteration:
                empty = self.taken == 0
                self._it = None
                self.passes += 1
                self.taken = 0
                self.at_pass_end = one_pass and not empty
                if empty:
                    return False, None
                continue
            self.taken += 1
            if self.drop > 0:
                self.drop -= 1
                self.dropped += 1
                continue
            return True, batch

    def new_pass(self) -> None:
        """The next batch begins a pass, wherever the last one was left. Its iterator goes at once, as it does behind a ``for``, and with it
        its workers and what they have fetched beforehand."""
        if self._it is not None:
            self._it = None
            self.passes += 1
            self.taken = 0
        self.at_pass_end = False

    def position(self) -> Position:
        """Where it stands now. Cheap, but for what the loader's own ``state_dict`` costs."""
        loader_state = copy.deepcopy(self.loader.state_dict()) if self.stateful else None
        own = [rng.state_of(g) for _, g in self._generators]
        begun = self._it is not None
        return Position(
            self,
            self.passes,
            self.taken if begun else 0,
            self._at_start if begun else None,
            self._own_at_start,
            own,
            loader_state,
        )

    def rewind(self, to: Position) -> list[str]:
        """Go back there; the process's generators are the caller's to put back AFTERWARDS (``iter(loader)`` draws from them).

        Returns in words why what follows may not be the same batches; empty where it will be.
        """
        if to.feed() is not self:
            return ["the batches came from another loader then: the data went on"]
        if self.stateful:
            self.loader.load_state_dict(copy.deepcopy(to.loader_state))
            self._it = iter(self.loader) if to.at_start is not None else None
            self.passes, self.taken = to.passes, to.taken
            self._at_start, self._own_at_start = to.at_start, to.own_at_start
            return self._doubts()
        if self._one_shot or (self._it is None and self.passes == 0 and hasattr(type(self.loader), "__next__")):
            return ["the loader is an iterator that cannot be begun again: the data went on"]
        if self._unknown:
            return ["the loader's random state could not be read: the data went on"]
        self._it, self.passes, self.taken = None, to.passes, 0
        if to.at_start is not None:
            rng.restore(to.at_start)
            for (_, g), state in zip(self._generators, to.own_at_start, strict=True):
                rng.set_state(g, state)
            self._begin()
            assert self._it is not None
            for k in range(to.taken):
                try:
                    next(self._it)
                except StopIteration:
                    return [
                        f"the loader ended after {k} of {to.taken} batches when it was begun again: the data are not those of then"
                    ]
            self.taken = to.taken
        for (_, g), state in zip(self._generators, to.own, strict=True):
            rng.set_state(g, state)
        return self._doubts()

    def _begin(self) -> None:
        self._at_start, self._own_at_start = {}, []
        if not self.stateful:
            try:
                self._at_start = rng.capture()
                self._own_at_start = [rng.state_of(g) for _, g in self._generators]
            except Exception as e:  # the batches must come; only a replay will not be had
                if raised_by_handler(e):
                    raise
                self._unknown = True
        self._it = iter(self.loader)
        self._one_shot = self._it is self.loader
        self.taken = 0

    @property
    def workers(self) -> int | None:
        """Processes that the loader reads with, as torch's says it; None: it does not say."""
        try:
            workers = getattr(self.loader, "num_workers", None)
        except Exception as e:  # as with ``_can_tell``
            if raised_by_handler(e):
                raise
            return None
        return workers if type(workers) is int and workers >= 0 else None

    def _doubts(self) -> list[str]:
        workers = self.workers
        if workers:
            return [f"the loader's {workers} worker processes have random numbers of their own, which were not rewound"]
        return []


def _can_tell(loader: Any) -> bool:
    try:
        return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
    except Exception as e:  # a foreign __getattr__ may raise anything, and the loader must still be iterated
        if raised_by_handler(e):
            raise
        return False
