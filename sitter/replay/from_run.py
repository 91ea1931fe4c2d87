"""A recorded run, out of its history: points and events in the order in which they were made, and what the machine did meanwhile."""

import re
from collections.abc import Iterator
from heapq import merge
from typing import Any, NamedTuple, TypeVar

import msgspec

from sitter.model import GpuNow, HostNow
from sitter.replay.story import Began, Item, Machine, Story
from sitter.rules.view import Sample
from sitter.store.reader import Reader
from sitter.store.series import GroupRow
from sitter.store.when import Clocks
from sitter_wire.events import GoodBye

_GPU = re.compile(r"gpu(\d+)\.(\w+)")
BYTES = ("mem_used", "disk_free", "train_rss")
Figures = TypeVar("Figures", HostNow, GpuNow)


class _At(NamedTuple):
    """In what order it was made: by session, then by its number in it. The machine's figures fall between, by time."""

    order: tuple[int, int]
    seq: int
    time: float
    item: Item


def from_run(reader: Reader, name: str, goal: tuple[str, str] | None = None) -> Story:
    """Raises StoreError, also while it is told."""
    items = _with_machine(_told(reader), _machine(reader))
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


def _machine(reader: Reader) -> Iterator[Machine]:
    """Of each figure its last known value."""
    streams = [_figures(reader, group) for group in reader.groups() if group.host]
    gpus: dict[int, dict[str, float]] = {}
    host: dict[str, float] = {}
    for time, figures in merge(*streams, key=lambda told: told[0]):
        for name, value in figures.items():
            if found := _GPU.fullmatch(name):
                gpus.setdefault(int(found[1]), {})[found[2]] = value
            else:
                host[name.removeprefix("host.")] = value
        yield Machine(
            time=time, host=_of(HostNow, host),
            gpus=[_of(GpuNow, {"index": i, "uuid": f"gpu{i}", "name": "", "used_by_run": True, **its}) for i, its in sorted(gpus.items())],
        )  # fmt: skip


def _figures(reader: Reader, group: GroupRow) -> Iterator[tuple[float, dict[str, float]]]:
    for rows in reader.rows(group):
        for time, *values in zip(rows.time, *rows.columns, strict=True):
            yield time / 1e6, dict(zip(group.names, values, strict=True))


def _of(kind: type[Figures], figures: dict[str, Any]) -> Figures:
    known: dict[str, Any] = {name: int(v) if name in BYTES else v for name, v in figures.items() if name in kind.__struct_fields__}
    return kind(**known)


def _with_machine(told: Iterator[_At], machine: Iterator[Machine]) -> Iterator[Item]:
    """The machine's figures before the first thing that came after them; and when processes began and ended."""
    figure = next(machine, None)
    session: tuple[int, int] | None = None
    for at in told:
        if at.order != session:
            session = at.order
            yield Began(at.time, session=str(at.order))
        while figure is not None and figure.time <= at.time:
            yield figure
            figure = next(machine, None)
        yield at.item
        if isinstance(getattr(at.item, "event", None), GoodBye):
            yield Began(at.time, session=str(at.order), alive=False)
