"""What a replay is shown by: its curve, what was found, and a few sums."""

import math
from array import array
from collections import Counter
from collections.abc import Iterator

from sitter.model import Curve, Curves, Marker
from sitter.replay.player import Line
from sitter.replay.story import Item, Story
from sitter.rules.view import Sample

COLUMNS = 400
"""Of the curve that is kept for the picture."""
MARKED = ("warning", "critical")


class Record:
    """Listens while a story is told."""

    def __init__(self, signals: tuple[str, ...] = ("loss", "val_loss", "lr")) -> None:
        self._steps: dict[str, array[float]] = {name: array("d") for name in signals}
        self._values: dict[str, array[float]] = {name: array("d") for name in signals}
        self._kept = [(name, self._steps[name].append, self._values[name].append) for name in signals]
        self.lines: list[Line] = []
        self.samples = 0
        self.first: int | None = None
        self.last = 0
        self.seconds = 0.0
        self._began: float | None = None

    def heard(self, story: Story) -> Story:
        """The same story, listened to."""
        return Story(name=story.name, items=self._items(story.items), timed=story.timed, goal=story.goal, better=story.better)

    def _items(self, items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            if isinstance(item, Sample):
                self._sample(item)
            yield item

    def _sample(self, sample: Sample) -> None:
        step, time, values = sample.step, sample.time, sample.values
        self.samples += 1
        if self._began is None:
            self.first, self._began = step, time
        self.last = step
        if time - self._began > self.seconds:
            self.seconds = time - self._began
        for name, keep_step, keep_value in self._kept:
            value = values.get(name)
            if value is not None:
                keep_step(step)
                keep_value(value)

    def counts(self) -> dict[str, int]:
        """By severity, and ``acts`` (unasked) and ``asks``."""
        by = Counter(line.severity for line in self.lines)
        acts = sum(line.acts for line in self.lines)
        asks = sum(line.mode == "ask" and line.action is not None and not line.acts for line in self.lines)
        return {"critical": by["critical"], "warning": by["warning"], "info": by["info"], "acts": acts, "asks": asks}

    def ends(self, name: str) -> tuple[float, float] | None:
        """First and last finite value of a signal."""
        finite = [v for v in self._values[name] if math.isfinite(v)]
        return (finite[0], finite[-1]) if finite else None

    def curves(self) -> Curves:
        """For a chart: in ``COLUMNS`` columns, with a mark for each finding that is more than an information."""
        lo, hi = float(self.first or 0), float(max(self.last, (self.first or 0) + 1))
        markers = [Marker(x=line.step, kind="incident", text=line.text) for line in self.lines if line.severity in MARKED]
        return Curves(curves=[self._curve(name, lo, hi) for name in self._steps if self._steps[name]], markers=markers, lo=lo, hi=hi)

    def _curve(self, name: str, lo: float, hi: float) -> Curve:
        low, high, total, known = ([math.nan] * COLUMNS, [math.nan] * COLUMNS, [0.0] * COLUMNS, [0] * COLUMNS)
        lost = set()
        per = (COLUMNS - 1) / (hi - lo)
        for step, value in zip(self._steps[name], self._values[name], strict=True):
            i = min(COLUMNS - 1, max(0, int((step - lo) * per)))
            if not math.isfinite(value):
                lost.add(i)
                continue
            low[i] = value if known[i] == 0 else min(low[i], value)
            high[i] = value if known[i] == 0 else max(high[i], value)
            total[i] += value
            known[i] += 1
        x = [lo + i / per for i in range(COLUMNS)]
        mean = [total[i] / known[i] if known[i] else math.nan for i in range(COLUMNS)]
        at = [x[i] if known[i] else math.nan for i in range(COLUMNS)]
        return Curve(signal=name, x=at, low=low, high=high, mean=mean, lost=[x[i] for i in sorted(lost)])
