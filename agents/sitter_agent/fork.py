"""Forked children are not the agent: whatever holds sockets, locks or mapped memory is told so, in the child, at once.

Children were seen to overwrite their parent's records and to lose messages that had been "sent".
"""

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that must stay still in a forked child."""

    def forked(self) -> None:
        """Called in the child before any of its code runs: become inert; take no lock, close nothing."""
        ...


_living: "dict[int, weakref.ref[Forkable]]" = {}


def watch(thing: Forkable) -> None:
    """Have ``thing.forked()`` called in every child of this process for as long as it lives."""
    key = id(thing)
    _living[key] = weakref.ref(thing, lambda _: _living.pop(key, None))


def _in_child() -> None:
    for ref in list(_living.values()):
        thing = ref()
        if thing is not None:
            thing.forked()
    _living.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
