"""A recorded run, out of its history: points and events in the order in which they were made, and what the machine did meanwhile."""

import math
from collections.abc import Iterator
from heapq import merge
from typing import NamedTuple

import msgspec

from sitter.replay.machine import machine
from sitter.replay.story import Began, Item, Machine, Story
from sitter.rules.view import Sample
from sitter.store.reader import Reader
from sitter.store.series import GroupRow
from sitter.store.when import Clocks
from sitter_wire.events import GoodBye


class _At(NamedTuple):
    """In what order it was made: by session, then by its number in it. The machine's figures fall between, by time."""

    order: tuple[int, int]
    seq: int
    time: float
    item: Item


def from_run(reader: Reader, name: str, goal: tuple[str, str] | None = None) -> Story:
    """Raises StoreError, also while it is told."""
    items = _with_machine(_told(reader), machine(reader))
    return Story(name=name, items=items, timed=True, goal=goal[0] if goal else None, better=goal[1] if goal else "lower")


def _told(reader: Reader) -> Iterator[_At]:
    clocks = reader.clocks()
    streams = [_points(reader, clocks, group) for group in reader.groups() if not group.host]
    return merge(*streams, _events(reader, clocks), key=lambda at: (at.order, at.seq))


def _points(reader: Reader, clocks: Clocks, group: GroupRow) -> Iterator[_At]:
    names = group.names
    for rows in reader.rows(group):
        order, branch, shift = clocks.order.get(rows.session, (0, rows.session)), rows.branch, clocks.offset_ns(rows.session) / 1e9
        for seq, step, time, *values in zip(rows.seq, rows.step, rows.time, *rows.columns, strict=True):
            at = time / 1e6 + shift
            yield _At(order, seq, at, Sample(step=step, branch=branch, time=at, values=dict(zip(names, values, strict=True))))


def _events(reader: Reader, clocks: Clocks) -> Iterator[_At]:
    numbers = {name: number for number, name in clocks.names.items()}
    found = []
    for stored in reader.events():
        number = numbers.get(stored.session, 0)
        at = clocks.wall(number, stored.happening.time // 1000)
        happening = msgspec.structs.replace(stored.happening, time=round(at * 1e9))  # one clock for all that is told
        found.append(_At(clocks.order.get(number, (0, number)), happening.seq, at, happening))
    return iter(sorted(found, key=lambda at: (at.order, at.seq)))


def _with_machine(told: Iterator[_At], looks: Iterator[Machine]) -> Iterator[Item]:
    """The machine's figures before the first thing that came after them; and when processes began and ended."""
    figures = _Figures(looks)
    session: tuple[int, int] | None = None
    last, lives = 0.0, False
    for at in told:
        if at.order != session:
            if lives:
                yield from figures.outlived(last, at.time)
            yield from figures.until(at.time)
            session, lives = at.order, True
            yield Began(at.time, session=str(session))
        last = at.time
        if figures.due <= last:
            yield from figures.until(last)
        yield at.item
        if lives and isinstance(getattr(at.item, "event", None), GoodBye):
            lives = False
            yield Began(last, session=str(session), alive=False)
    if lives:
        yield from figures.outlived(last, math.inf)
    yield from figures.until(math.inf)


class _Figures:
    """The machine's figures, taken in pieces. ``due``: when the next of them were seen."""

    def __init__(self, looks: Iterator[Machine]) -> None:
        self._looks = looks
        self._take()

    def _take(self) -> None:
        self._next = next(self._looks, None)
        self.due = math.inf if self._next is None else self._next.time

    def until(self, time: float) -> Iterator[Machine]:
        """All up to a time."""
        while self._next is not None and self.due <= time:
            yield self._next
            self._take()

    def outlived(self, last: float, time: float) -> Iterator[Item]:
        """Up to a time, of a process that said nothing more after ``last``: it lived for as long as the machine knew its memory."""
        while self._next is not None and self.due <= time and self._next.host is not None and self._next.host.train_rss is not None:
            last = max(last, self.due)
            yield from self.until(last)
        yield Began(last, alive=False)
