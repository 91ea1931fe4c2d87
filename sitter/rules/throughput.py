"""The run has become slower than it was, for good."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

from sitter.clock import human
from sitter.model import Finding
from sitter.rules.base import RECOVERED, Case, RuleParams
from sitter.rules.steps import StepRule, in_words, middle, seconds_of, steps, waits
from sitter.rules.view import RunView, Sample
from sitter_wire.events import KnobChanged
from sitter_wire.records import Happening

STRETCH_S = 300.0
SETTLE_S = 300.0
"""At the start of a process: compiling, filling caches, allocating."""
FEWEST = 12
"""Stretches that make a level: an hour."""
REMEMBERED = 288
"""Stretches: a day."""
STAYED = 72
"""Stretches after which the new level is taken for usual: six hours."""
SAME_WORK = ("lr", "weight_decay", "momentum", "betas", "eps", "dropout", "clip")
"""Knobs that do not change how much a step has to do, by the beginning of their name."""


class _Stretch(NamedTuple):
    """Middle seconds of a step, and of its waiting for data; the first step."""

    seconds: float
    waited: float
    step: int


def _run(took: Callable[[float], float], hours: float, wait: Callable[[float], float] | None = None, every: int = 0) -> Iterator[Sample]:
    """Steps of so many times 4 s at a time in hours, with an evaluation of 4,000 s every so many."""
    def seconds(i: int, t: float) -> float:
        return 4000.0 if every and i % every == every - 1 else 4.0 * took(t / 3600.0)
    return steps(seconds, round(hours * 900), wait=None if wait is None else lambda i, t: 4.0 * wait(t / 3600.0))


class Throughput(StepRule):
    """Steps take a quarter longer than they did in the run's best hour, for half an hour: a fifth of the speed is gone.

    Looked at is the middle step of each five minutes, so that evaluations, checkpoints and slow outliers do not count. The level is the
    fastest hour of this process, after its first five minutes. All stretches of half an hour must lie above it, and above what nine of ten
    stretches before were: a shared machine that is slow now and then is not slower than it was. Where a knob changes what a step has to do
    (a batch size, an accumulation), the level is learned anew. A step that has more to do by the script's own plan (longer sequences,
    larger pictures) looks the same from here, and is said once; after six hours it is taken for usual. It names the waiting for data
    where that has grown.
    """

    name: ClassVar[str] = "throughput"
    title: ClassVar[str] = "steps become slower"
    default_mode = "watch"
    rests = 2

    class Params(RuleParams, frozen=True):
        """When."""

        fall: float = 0.2
        """Share of its speed that the run has lost …"""
        minutes: float = 30.0
        """… for so long."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._times = 0
        self._said = 0  # stretches since it was said
        self._factor = 1.0 / (1.0 - self.params.fall)
        self._lasts = max(3, round(60.0 * self.params.minutes / STRETCH_S))
        self.begin_anew()

    def begin_anew(self) -> None:
        """The work, or the machine, is another."""
        self._began: float | None = None
        self._blocks: list[tuple[float, float]] = []
        self._opened: tuple[float, int] = (0.0, 0)
        self._past: deque[_Stretch] = deque(maxlen=REMEMBERED)
        self._now: deque[_Stretch] = deque(maxlen=self._lasts)
        self._best: tuple[float, float] | None = None  # of an hour: seconds of a step, and of its waiting for data

    def happened(self, happening: Happening, view: RunView) -> None:
        """A knob that changes the work begins a new level."""
        super().happened(happening, view)
        event = happening.event
        if isinstance(event, KnobChanged) and not event.knob.startswith(SAME_WORK):
            self.begin_anew()

    def judge(self, block: list[Sample], view: RunView) -> Finding | None:
        """The middle step of this block; of five minutes together a stretch."""
        now, first = block[-1].time, block[0]
        if self._began is None:
            self._began = first.time
        if now - self._began < SETTLE_S:
            return None
        if not self._blocks:
            self._opened = first.time, first.step
        self._blocks.append((middle(seconds_of(block)), middle(waits(block[::4]))))
        if now - self._opened[0] < STRETCH_S:
            return None
        blocks, self._blocks = self._blocks, []
        stretch = _Stretch(middle([b[0] for b in blocks]), middle([b[1] for b in blocks]), self._opened[1])
        if not 0.0 < stretch.seconds < math.inf:
            return None
        return self._stretch(stretch, view, block[-1].step)

    def _stretch(self, stretch: _Stretch, view: RunView, step: int) -> Finding | None:
        if len(self._now) == self._lasts:
            self._past.append(self._now[0])
            self._level()
        self._now.append(stretch)
        if self._best is None or len(self._now) < self._lasts:
            return None
        best, best_wait = self._best
        least = min([s.seconds for s in self._now])
        if self._said:
            self._said += 1
            last = middle([s.seconds for s in list(self._now)[-3:]])
            if last < 1.0 / (1.0 - 0.5 * self.params.fall) * best:
                return self._over(f"steps take {in_words(last)} again", 1, view, step)
            if self._said > STAYED:
                found = self._over(f"steps have taken {in_words(last)} for {human(STAYED * STRETCH_S)}", 0, view, step)
                self.begin_anew()
                return found
            return None
        tail = sorted([s.seconds for s in self._past])[math.ceil(0.9 * len(self._past)) - 1]
        if least < self._factor * best or least <= tail:
            return None
        self._said, onset = 1, self._now[0].step
        self._times += 1
        level, wait = middle([s.seconds for s in self._now]), middle([s.waited for s in self._now])
        grown = (wait - best_wait) / (level - best)
        if grown > 0.5:
            why = (
                f"; the waiting for data has grown from {best_wait / best:.0%} to {wait / level:.0%} of a step: look at the loader and the "
                "storage"
            )
        else:
            why = "; unless each step has more to do by your own plan, look at the GPU's clock, other jobs, and what is kept or logged"
        text = (
            f"steps have taken {in_words(level)} for {human(self._lasts * STRETCH_S)}, {in_words(best)} in the run's best hour: "
            f"{1.0 - best / level:.0%} of the speed is gone{why}"
        )
        return self.found(
            "warning", text, step=step, branch=view.branch, onset=onset, key=self._key(),
            evidence={"step_s": level, "best_step_s": best, "fall": 1.0 - best / level, "data_wait_s": wait, "best_data_wait_s": best_wait},
        )  # fmt: skip

    def _level(self) -> None:
        """The fastest hour so far."""
        if len(self._past) < FEWEST:
            return
        hour = list(self._past)[-FEWEST:]
        level = middle([s.seconds for s in hour])
        if self._best is None or level < self._best[0]:
            self._best = level, middle([s.waited for s in hour])

    def _over(self, text: str, recovered: int, view: RunView, step: int) -> Finding:
        self._said = 0
        return self.found("info", text, step=step, branch=view.branch, key=self._key(), evidence={RECOVERED: recovered})

    def _key(self) -> str:
        return f"{self.name}:{self._times}"

    FIRES = (
        Case("a third slower after four hours", lambda: _run(lambda h: 1.0 if h < 4 else 1.5, 6), says="33% of the speed is gone"),
        Case("ever slower", lambda: _run(lambda h: 1.0 + 0.05 * h, 12), says="of the speed is gone"),
        Case("for data",
             lambda: _run(lambda h: 1.0 if h < 4 else 1.5, 6, lambda h: 0.02 if h < 4 else 0.5), says="from 2% to 33% of a step"),
        Case("and it is over", lambda: _run(lambda h: 1.5 if 4 < h < 6 else 1.0, 9), says="s again"),
        Case("a plan of its own is taken for usual", lambda: _run(lambda h: 1.0 if h < 4 else 2.0, 24), says="for 6 h"),
    )  # fmt: skip
    QUIET = (
        Case("steady for a day", lambda: _run(lambda h: 1.0, 24)),
        Case("evaluations of 1,000 steps' time every 500 steps", lambda: _run(lambda h: 1.0, 24, every=500)),
        Case("compiles and fills its caches for an hour", lambda: _run(lambda h: 2.0 - min(1.0, h), 12)),
        Case("15 % slower", lambda: _run(lambda h: 1.0 if h < 4 else 1.15, 12)),
        Case("another job for 20 minutes, every hour", lambda: _run(lambda h: 1.5 if h % 1 > 0.67 else 1.0, 24)),
        Case("a laptop whose fan comes and goes", lambda: _run(lambda h: 1.2 + 0.2 * math.sin(h * 9.0), 24)),
        Case("steps of two kinds", lambda: steps(lambda i, t: 4.0 if i % 3 else 12.0, 8000)),
        Case("no time at all", lambda: (Sample(i, 0, float(i), {"step_time": 0.0}) for i in range(20_000))),
    )  # fmt: skip
