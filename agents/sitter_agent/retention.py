"""Which checkpoints may go: newest 2, best 1, one per 12 h (at most 4) and the pinned are kept, within a share of the disk."""

import datetime
from collections.abc import Callable
from typing import Literal

from sitter_agent.checkpoint_files import Sidecar

NEWEST = 2
EVERY_S = 12 * 3600.0
MOST_OLD = 4
GOOD_AFTER = 200
"""Healthy steps that must have FOLLOWED for a checkpoint to be good; the daemon's ``healthy_steps`` has the same default."""

Followed = Callable[[int, int], int | None]


def is_good(side: Sidecar, followed: Followed, good_after: int = GOOD_AFTER) -> bool:
    """Whether enough steps that the daemon vouched for followed it."""
    n = followed(side.branch, side.step)
    return n is not None and n >= good_after


def spare(
    have: list[Sidecar],
    session: str,
    line: list[tuple[int, int]],
    followed: Followed,
    better: Literal["lower", "higher"],
    limit: int,
    good_after: int = GOOD_AFTER,
) -> list[tuple[Sidecar, str]]:
    """What may be deleted, each with the reason. Never a pinned one, nor the last good one, nor (with none good) the last cleared.

    Another session's are only looked at where they lie on the present line: a new attempt must not cost an old one its checkpoints.
    """
    mine = [s for s in have if on_line(line, s)]
    have = [s for s in have if s in mine or s.session == session]
    newest = sorted(mine, key=lambda s: (s.step, s.branch))[-NEWEST:]
    good = [s for s in mine if is_good(s, followed, good_after)]
    scored = [s for s in good if s.goal is not None]
    best = _best(scored, better)
    safe = _last(good) or _last([s for s in mine if s.cleared])
    old = _spread([s for s in mine if s.cleared])
    keep = {s.file for s in [*newest, *best, *old, *safe]} | {s.file for s in have if s.pinned}
    gone = [(s, "not among the newest 2, the best, one per 12 h, or pinned") for s in have if s.file not in keep]
    left = [s for s in have if s.file in keep]
    must = {s.file for s in [*newest[-1:], *safe]} | {s.file for s in have if s.pinned}
    for s in sorted((s for s in left if s.file not in must), key=lambda s: (s in best, s in newest, s.step)):
        if limit <= 0 or sum(x.bytes for x in left) <= limit:
            break
        left.remove(s)
        gone.append((s, "all checkpoints together would take more than their share of the disk"))
    return gone


def room(
    have: list[Sidecar], session: str, line: list[tuple[int, int]], followed: Followed, better: Literal["lower", "higher"],
    lacking: int, good_after: int = GOOD_AFTER,
) -> list[Sidecar]:  # fmt: skip
    """What may be deleted so that ``lacking`` bytes become free, no more than that takes. Empty where it would not suffice: then nothing is
    gained by deleting any."""
    gone: list[Sidecar] = []
    for side, _ in spare(have, session, line, followed, better, 1, good_after):  # as if nothing were allowed but what must stay
        if sum(s.bytes for s in gone) >= lacking:
            break
        gone.append(side)
    return gone if sum(s.bytes for s in gone) >= lacking else []


def on_line(line: list[tuple[int, int]], side: Sidecar) -> bool:
    """Whether a checkpoint is an ancestor on this line of branches."""
    for i, (branch, start) in enumerate(line):
        if branch == side.branch:
            end = line[i + 1][1] if i + 1 < len(line) else None
            return start <= side.step and (end is None or side.step <= end)
    return False


def _best(scored: list[Sidecar], better: str) -> list[Sidecar]:
    if not scored:
        return []
    sign = -1.0 if better == "higher" else 1.0
    return [min(scored, key=lambda s: sign * (s.goal or 0.0))]


def _last(some: list[Sidecar]) -> list[Sidecar]:
    return [max(some, key=lambda s: (s.step, s.branch))] if some else []


def _spread(some: list[Sidecar]) -> list[Sidecar]:
    """The first of every 12 hours, the newest four of these."""
    kept: list[Sidecar] = []
    last: float | None = None
    for s in sorted(some, key=lambda s: s.time):
        try:
            at = datetime.datetime.fromisoformat(s.time).timestamp()
        except ValueError:
            continue
        if last is None or at - last >= EVERY_S:
            kept.append(s)
            last = at
    return kept[-MOST_OLD:]
