"""The short way into the file, for values under names that were logged before: one function a number of values, no lock.

CPython lets another thread or a signal handler in only behind a call, at a jump back and where a function begins. Between the line that
reads the place of the next record and the end of ``pack_into`` below there is none of that: the place is taken, the next one is told, and
the record is whole before anybody else may look. (``tests/unit/agent/test_quick.py`` holds that against the instructions themselves, and
with a writer from another thread at every place where one may come.) A Python without that lock of its own goes the other way.

The function is made for its number of values, as ``dataclasses`` makes its own: gathered in a list and a tuple for ``pack_into(*…)`` they
would cost 0.8 of 4.2 µs where the caches are cold. Everything it needs comes to it as a default, side by side in memory.
"""

import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from time import monotonic_ns
from types import CodeType, FunctionType
from typing import Any

from sitter_wire.records import point_struct

MOST = 20
"""Values; from 30 arguments on Python gathers them in a list, and lets the garbage collector in."""

Put = Callable[[int, int, Iterable[Any]], bool]
"""``put(step, branch, values)``: they are in the file; or False, and nothing was done: one of them is no exact float, or there is no room.
``step`` and ``branch`` are ints of 8 bytes, ``values`` as many as there are names. Raises only what a signal handler raises."""


class Place:
    """Where the next record goes: what every ``log`` reads and writes, side by side in memory.

    ``_next`` is its sequence number, ``_at`` its offset in ``_mapped``, which may be used up to ``_limit``. ``ship_at``: monotonic
    nanoseconds.
    """

    __slots__ = ("_at", "_limit", "_mapped", "_next", "ship_at")
    _at: int
    _limit: int
    _mapped: Any
    _next: int
    ship_at: int


SOURCE = """
def put(step, branch, values, place, word, length, pack_into, clock, ship, spoiled, fill, type, float):
    {v}, = values
    if {floats}:
        now = clock()
        at = place._at
        end = at + length
        if end <= place._limit:
            seq = place._next
            try:
                place._at, place._next = end, seq + 1
                pack_into(place._mapped, at, word, step, branch, now, {v}, seq)
            except BaseException:  # Ctrl-C too: the place is given out, and a half-written one must be known as such
                spoiled.append((place._mapped, at, length, seq))
                fill()
                raise
            if now >= place.ship_at:
                ship()
            return True
    return False
"""


@lru_cache(maxsize=MOST)
def code(n: int, source: str = SOURCE) -> CodeType:
    """For ``n`` values."""
    names = [f"v{i}" for i in range(n)]
    text = source.format(v=", ".join(names), floats=" and ".join(f"type({v}) is float" for v in names))
    (made,) = (c for c in compile(text, f"<{__name__}, {n} values>", "exec").co_consts if isinstance(c, CodeType))
    return made


def possible(n: int) -> bool:
    """Whether ``n`` values can go the short way here."""
    locked: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return 0 < n <= MOST and locked()


def make(
    place: Place, n: int, word: int, ship: Callable[[], object], spoiled: list[Any], fill: Callable[[], object], source: str = SOURCE
) -> Put:
    """For ``n`` values behind ``word``. ``ship`` is called by the first one at or after ``place.ship_at``.

    A slot that was taken and not filled, since a handler of the script raised, is put to ``spoiled``, and ``fill`` called.
    """
    packer = point_struct(n)
    given = (place, word, packer.size, packer.pack_into, monotonic_ns, ship, spoiled, fill, type, float)
    return FunctionType(code(n, source), {"BaseException": BaseException}, "put", given)
