"""Which steps count: the present line of branches, and what restores left behind."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

BEGINNING = -1
"""The step before the first."""


class Stretch(NamedTuple):
    """Steps of one branch: after ``after`` (exclusive), up to ``to`` (inclusive; None = as far as it goes)."""

    branch: int
    after: int
    to: int | None


Parents = Mapping[int, tuple[int | None, int | None]]
"""branch → (the branch it came from, the step it went back to); (None, None) for one that began from nothing."""


def line(parents: Parents, branch: int | None = None) -> list[Stretch]:
    """The steps that led to ``branch`` (None: the present one, the highest), oldest first.

    A branch that was later left counts up to where the next went back to, at most.
    """
    if branch is None:
        branch = max(parents, default=None)
    out: list[Stretch] = []
    to: int | None = None
    seen: set[int] = set()
    while branch is not None and branch not in seen:  # a damaged table must not hang whoever asks
        seen.add(branch)
        parent, step = parents.get(branch, (None, None))
        after = BEGINNING if parent is None or step is None else step
        if to is None or to > after:
            out.append(Stretch(branch, after, to))
        if parent is not None and step is not None:
            to = step if to is None else min(to, step)
        branch = parent
    return out[::-1]


def abandoned(parents: Parents, present: Iterable[Stretch]) -> list[Stretch]:
    """The stretches of all branches that are not on the present line, in order of branch."""
    kept = {s.branch: s for s in present}
    out: list[Stretch] = []
    for branch in sorted(parents):
        stretch = kept.get(branch)
        parent, step = parents[branch]
        if stretch is None:
            out.append(Stretch(branch, BEGINNING if parent is None or step is None else step, None))
        elif stretch.to is not None:
            out.append(Stretch(branch, stretch.to, None))
    return out
