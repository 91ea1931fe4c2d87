"""What the machine did while a recorded run ran: look by look, as far as somebody looked."""

from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from operator import itemgetter

from sitter.host.kept import Looks
from sitter.model import GpuNow
from sitter.replay.story import Machine
from sitter.store.reader import Reader
from sitter.store.series import GroupRow

HOLDS_S = 30.0
"""So long a look holds; they come every ten seconds at least. After that nobody looked, and nothing is known."""

Told = tuple[int, int, list[GpuNow] | dict[str, float]]
"""Wall time in microseconds; 0 for words, which come first, 1 for figures."""


def machine(reader: Reader) -> Iterator[Machine]:
    """The looks in the order of time. Raises StoreError."""
    looks, last = Looks(), None
    words: Iterator[Told] = ((time, 0, gpus) for time, gpus in reader.gpus())
    streams = [_figures(reader, group) for group in reader.groups() if group.host]
    for time, told in groupby(merge(words, *streams, key=itemgetter(0, 1)), key=itemgetter(0)):
        now = time / 1e6
        if last is not None and now - last > HOLDS_S:
            yield Machine(time=last + HOLDS_S, host=None, gpus=[])
        last = now
        for _, _, what in told:
            if isinstance(what, dict):
                looks.figures(what)
            else:
                looks.words(what)
        yield Machine(time=now, host=looks.host, gpus=looks.gpus)
    if last is not None:
        yield Machine(time=last + HOLDS_S, host=None, gpus=[])


def _figures(reader: Reader, group: GroupRow) -> Iterator[Told]:
    for rows in reader.rows(group):
        for time, *values in zip(rows.time, *rows.columns, strict=True):
            yield time, 1, dict(zip(group.names, values, strict=True))
