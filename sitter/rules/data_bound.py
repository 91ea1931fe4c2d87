"""The training waits for its data."""

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar

from sitter.model import Finding, HostNow
from sitter.rules.base import RECOVERED, Case, RuleParams, Tick
from sitter.rules.steps import StepRule, middle, seconds_of, steps, waits
from sitter.rules.view import RunView, Sample
from sitter_wire.events import LoopStart, SessionStart
from sitter_wire.records import Happening

BLOCKS = 6
"""Of 64 steps; their middle is what counts, so that the beginning of a pass, where workers start, is one block and no more."""
LASTS_S = 120.0
OVER = 0.8
"""It is over below so much of the bar."""
LONG = 3.0
"""A step that works so many times longer than usual evaluates, compiles or writes: it counts as this much."""
MOST_WORKERS = 16


def _loop(workers: int) -> Happening:
    return Happening(seq=1, step=0, branch=0, time=0, event=LoopStart(total=1000, workers=workers))


Told = Iterator[Sample | Tick | Happening]


def _slow(share: float, workers: int | None = None, *, cpu: float | None = None, cpus: float | None = None) -> Told:
    if workers is not None:
        yield _loop(workers)
    yield Tick(0.0, {"host": HostNow(cpu=cpu, cpus=cpus)})
    yield from steps(lambda i, t: 0.5, 1200, wait=lambda i, t: 0.5 * share)


class DataBound(StepRule):
    """Each step waits for data for a tenth of its time or more: the GPU could do so much more.

    Looked at are 384 steps, the last six blocks of 64 (of one block in three where they come fast): the middle one of their shares counts,
    so that the beginning of a pass, where the loader's workers start, does not; and a step that evaluates or compiles counts as three usual
    ones. It must last for two minutes. From a tenth on it is noted, from a fifth on it is a warning (TraceML's bars). What helps depends on
    what is known: how many workers the loader has, and how many cores have nothing to do. With w workers and a share s of waiting,
    w / (1 - s) bring as much as the steps want.
    """

    name: ClassVar[str] = "data_bound"
    title: ClassVar[str] = "waits for data"
    default_mode = "watch"
    rests = 2

    class Params(RuleParams, frozen=True):
        """When."""

        note: float = 0.10
        """Share of the step; noted."""
        warn: float = 0.20
        """Share of the step; a warning."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._shares: deque[float] = deque(maxlen=BLOCKS)
        self._workers: int | None = None
        self._since: list[float | None] = [None, None]  # above ``note``, above ``warn``
        self._said = 0
        self._times = 0

    def begin_anew(self) -> None:
        """Another process, maybe with another loader."""
        self._shares.clear()
        self._since = [None, None]

    def happened(self, happening: Happening, view: RunView) -> None:
        """The loop says how many workers its loader has."""
        super().happened(happening, view)
        event = happening.event
        if isinstance(event, LoopStart) and event.workers is not None:
            self._workers = event.workers
        elif isinstance(event, SessionStart):
            self._workers = None

    def knowledge(self) -> Any:
        """The workers: they are told once."""
        return self._workers

    def know(self, told: Any) -> None:
        """The same."""
        self._workers = int(told)

    def judge(self, block: list[Sample], view: RunView) -> Finding | None:
        """The share of this block, and the middle of the last ones."""
        if "data_wait" not in block[-1].values:
            return None
        took, waited = seconds_of(block), waits(block)
        wait = sum(waited)
        work = max(0.0, sum(took) - wait)
        if max(took) > LONG * work / len(block):  # one of them may have evaluated
            worked = [max(0.0, t - w) for t, w in zip(took, waited, strict=True)]
            bar = LONG * middle(worked)
            work = sum([w if w < bar else bar for w in worked])
        if not 0.0 < wait + work < math.inf:
            return None
        self._shares.append(wait / (wait + work))
        if len(self._shares) < BLOCKS:
            return None
        share, now = middle(list(self._shares)), block[-1].time
        level = 0
        for i, least in enumerate((self.params.note, self.params.warn)):
            if share < least:
                self._since[i] = None
                continue
            began = self._since[i] = now if self._since[i] is None else self._since[i]
            if began is not None and now - began >= LASTS_S:
                level = i + 1
        if level > self._said:
            return self._say(level, share, view, block[-1].step)
        if self._said and share < OVER * self.params.note:
            self._said = 0
            return self.found(
                "info", f"{share:.0%} of each step waits for data: no longer worth a word", step=block[-1].step, branch=view.branch,
                key=self._key(), evidence={RECOVERED: 1, "share": share},
            )  # fmt: skip
        return None

    def _say(self, level: int, share: float, view: RunView, step: int) -> Finding:
        self._times += self._said == 0
        self._said = level
        idle = _idle_cores(view.host)
        return self.found(
            "warning" if level == 2 else "info", f"{share:.0%} of each step waits for data{advice(share, self._workers, idle)}", step=step,
            branch=view.branch, key=self._key(), evidence={"share": share, "workers": self._workers, "idle_cores": idle},
        )  # fmt: skip

    def _key(self) -> str:
        return f"{self.name}:{self._times}"

    FIRES = (
        Case("71 %, two workers, eight cores idle",
             lambda: _slow(0.71, 2, cpu=50.0, cpus=16.0), says="2 workers, 8 cores idle: try num_workers=8"),
        Case("no workers at all", lambda: _slow(0.6, 0, cpu=12.5, cpus=8.0), says="no workers, 7 cores idle: try num_workers=2"),
        Case("all cores busy", lambda: _slow(0.3, 8, cpu=97.0, cpus=8.0), says="no core is idle: make"),
        Case("nothing known of the machine", lambda: _slow(0.3), says="30% of each step waits for data: try more workers"),
        Case("an eighth", lambda: _slow(0.12), says="12% of each step"),
        Case("eight workers in a burst, then a wait",
             lambda: steps(lambda i, t: 2.5 if i % 8 == 0 else 0.5, 1200, wait=lambda i, t: 2.0 if i % 8 == 0 else 0.0),
             says="33% of each"),
        Case("and it is over", lambda: steps(lambda i, t: 0.5, 3000, wait=lambda i, t: 0.2 if i < 1200 else 0.0), says="no longer"),
    )  # fmt: skip
    QUIET = (
        Case("5 %", lambda: _slow(0.05, 4, cpu=20.0, cpus=16.0)),
        Case("the first steps wait for a minute each",
             lambda: steps(lambda i, t: 60.0 if i < 3 else 0.5, 2000, wait=lambda i, t: 60 if i < 3 else 0)),
        Case("workers start for 20 s at the beginning of each pass of 500 steps",
             lambda: steps(lambda i, t: 20.2 if i % 500 == 0 else 0.2, 5000, wait=lambda i, t: 20.0 if i % 500 == 0 else 0.0)),
        Case("a minute of a slow file system", lambda: steps(lambda i, t: 0.5, 4000, wait=lambda i, t: 0.4 if 500 < t < 560 else 0.0)),
        Case("a toy that is over in a minute", lambda: steps(lambda i, t: 0.001, 50_000, wait=lambda i, t: 0.0005)),
        Case("who waits is not known", lambda: steps(lambda i, t: 0.5, 2000)),
    )  # fmt: skip


def advice(share: float, workers: int | None, idle: int | None) -> str:
    """What would help, by what is known, after the sentence's beginning."""
    if idle == 0:
        return "; no core is idle: make a sample cheaper (decode less, cache, smaller files), or give the run more cores"
    known = [] if workers is None else ["no workers" if workers == 0 else "1 worker" if workers == 1 else f"{workers} workers"]
    known += [] if idle is None else ["1 core idle" if idle == 1 else f"{idle} cores idle"]
    after = f"; {', '.join(known)}" if known else ""
    if workers is None:
        return f"{after}: try more workers in its loader (num_workers), or cheaper samples"
    wanted = workers / (1.0 - min(share, 0.95)) if workers else share / (1.0 - min(share, 0.95))
    wanted = 2 * math.ceil(wanted / 2)
    if idle is not None:
        wanted = min(wanted, workers + idle)
    if wanted <= workers or workers >= MOST_WORKERS:
        return f"{after}: so many workers should do; look at the storage, and at what a sample costs"
    return f"{after}: try num_workers={max(workers + 1, min(wanted, MOST_WORKERS))}"


def _idle_cores(host: HostNow | None) -> int | None:
    if host is None or host.cpu is None or host.cpus is None:
        return None
    return max(0, math.floor(host.cpus * (1.0 - host.cpu / 100.0)))
