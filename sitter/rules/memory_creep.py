"""Memory that grows and will not stop: seen before the kernel's OOM killer, or CUDA's out of memory, sees it."""

import random
from collections.abc import Callable, Iterator
from typing import ClassVar

from sitter.clock import human
from sitter.model import Finding, GpuNow, HostNow, Notification, Proposable
from sitter.rules.base import RECOVERED, Case, Rule, RuleParams, Tick
from sitter.rules.creep import Creep, Trend
from sitter.rules.gpu import GIB, of_run
from sitter.rules.view import RunView
from sitter_wire.commands import TakeCheckpoint
from sitter_wire.events import SessionStart
from sitter_wire.records import Happening

HOST = "host"
OVER_AFTER = 30
"""Minutes without a trend after which it is over."""

Story = Callable[[], Iterator[Tick]]


def _story(used: Callable[[float], float], *, hours: float, gpu: Callable[[float], float] | None = None, rss: float = 1.0) -> Story:
    """``used`` of 64 GiB by the host at a time in minutes, ``gpu`` of 80; ``rss``: the training's share of it. With a little noise."""

    def ticks() -> Iterator[Tick]:
        noise = random.Random(3)
        for second in range(0, round(hours * 3600), 10):
            t = second / 60
            at = used(t) + noise.uniform(-0.02, 0.02)
            host = HostNow(mem_used=int(at * GIB), mem_total=64 * GIB, train_rss=int(rss * at * GIB))
            there = [] if gpu is None else [
                GpuNow(index=0, uuid="GPU-0", name="H100", used_by_run=True, mem_used=int(gpu(t) * GIB), mem_total=80 * GIB)
            ]  # fmt: skip
            yield Tick(float(second), {"host": host, "gpus": there})

    return ticks


class MemoryCreep(Rule):
    """Memory grows steadily, and at this rate it will be full within hours: the host's, the control group's, or a GPU's.

    A list that keeps every loss with its graph, a loader that copies its index into every worker, a fragmenting GPU heap: each costs a
    little a step and the whole run in the night. The limit is the tighter one of machine and control group; page cache that the kernel
    would give back does not count as used. Looked at are the least values of stretches of 10 s, 1 min and 10 min, so that the peaks of
    evaluations do not count. A trend must rise in most pairs of them (Theil-Sen), must not slow down as caches do that will fit, must
    not come back as garbage that is collected does, and is believed no further ahead than three times the span in which it was seen.
    A checkpoint is proposed, so that little is lost; what grows is the script's to find.
    """

    name: ClassVar[str] = "memory_creep"
    title: ClassVar[str] = "memory creeps up"
    default_mode = "ask"
    default_limit: ClassVar[str] = "6 per day"

    class Params(Rule.Params, frozen=True):
        """When."""

        hours: float = 6.0
        """It would be full within so many."""
        settle_minutes: float = 5.0
        """From the start of a session, in which all that is needed is allocated, caches fill, kernels are compiled."""
        percent: float = 1.0
        """Of the limit must have been added while the trend was seen."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._begin_anew()
        self._times = 0

    def _begin_anew(self) -> None:
        self._creeps: dict[str, Creep] = {}
        self._on: dict[str, int] = {}
        self._quiet: dict[str, int] = {}
        self._rss = Creep()
        self._since: float | None = None

    def happened(self, happening: Happening, view: RunView) -> None:
        """A new process has new memory."""
        if isinstance(happening.event, SessionStart):
            self._begin_anew()

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Once a second; it works when a stretch is complete."""
        if not view.in_session or view.paused:
            return None
        self._since = now if self._since is None else self._since
        if now - self._since < 60.0 * self.params.settle_minutes:
            return None
        if view.host is not None and view.host.train_rss:
            self._rss.add(now, view.host.train_rss)
        for name, used, total in _figures(view):
            creep = self._creeps.setdefault(name, Creep())
            if creep.add(now, used):
                found = self._judged(name, creep.trend(total), used, total, view)
                if found is not None:
                    return found
        return None

    def _judged(self, name: str, trend: Trend | None, used: float, total: float, view: RunView) -> Finding | None:
        wanted = trend is not None and trend.seconds <= 3600.0 * self.params.hours and trend.grown >= self.params.percent / 100.0 * total
        if not wanted or trend is None:
            self._quiet[name] = self._quiet.get(name, 0) + 1
            if name in self._on and self._quiet[name] >= OVER_AFTER:
                key = f"{self.name}:{name}:{self._on.pop(name)}"
                text = f"{_called(name)} grows no more: {used / GIB:.1f} of {total / GIB:.1f} GiB"
                evidence: dict[str, float | int | str | None] = {RECOVERED: 1, "used": int(used), "limit": int(total)}
                return self.found("info", text, step=view.step or 0, branch=view.branch, evidence=evidence, key=key)
            return None
        self._quiet[name] = 0
        if name in self._on:
            return None
        self._times += 1
        self._on[name] = self._times
        own = self._share(trend) if name == HOST else None
        whose = "" if own is None else ", by the training itself" if own > 0.5 else ", outside the training process"
        text = (
            f"{_called(name)} grows by {trend.slope * 3600 / GIB:.1f} GiB an hour{whose}: {used / GIB:.1f} of {total / GIB:.1f} GiB, "
            f"full in about {human(trend.seconds)}"
        )
        actions: list[Proposable] = [TakeCheckpoint(why="memory creeps up", cleared=True), Notification(event="memory_creep", text=text)]
        return self.found(
            "warning", text, step=view.step or 0, branch=view.branch, actions=actions, key=f"{self.name}:{name}:{self._times}",
            evidence={
                "used": int(used), "limit": int(total), "bytes_per_s": trend.slope, "seconds_left": trend.seconds,
                "seen_over_s": trend.span, "grown": int(trend.grown), "training_share": own,
            },
        )  # fmt: skip

    def _share(self, trend: Trend) -> float | None:
        slope = self._rss.slope(trend.span)
        return None if slope is None else slope / trend.slope

    FIRES = (
        Case("a gigabyte a minute", _story(lambda t: 20 + t, hours=0.5), says="by the training itself", acts=True),
        Case("2 GiB an hour, with an evaluation's peak every ten minutes",
             _story(lambda t: 54 + t / 30 + (6 if t % 10 < 0.5 else 0), hours=3), says="2.0 GiB an hour", acts=True),
        Case("slowly over a day", _story(lambda t: 50 + t / 90, hours=20), says="0.7 GiB an hour", acts=True),
        Case("workers that copy", _story(lambda t: 20 + t / 4, hours=2, rss=0.02), says="outside the training process", acts=True),
        Case("a sawtooth whose floor rises", _story(lambda t: 30 + t / 15 + t % 12 / 6, hours=5), says="GiB an hour"),
        Case("a GPU's heap", _story(lambda t: 20.0, hours=3, gpu=lambda t: 60 + t / 10), says="GPU 0's memory grows", acts=True),
    )  # fmt: skip
    QUIET = (
        Case("steady", _story(lambda t: 40.0, hours=12)),
        Case("start-up: a dataset is read in four minutes", _story(lambda t: 10 + 10 * min(t, 4), hours=2)),
        Case("a cache that fills and levels off", _story(lambda t: 20 + 40 * (1 - 2.718 ** (-t / 25)), hours=6)),
        Case("a cache that has its size after half an hour", _story(lambda t: 20 + min(t, 30) / 3, hours=4)),
        Case("garbage that is collected every twenty minutes", _story(lambda t: 30 + (t + 12) % 20, hours=8)),
        Case("evaluations", _story(lambda t: 30 + (25 if t % 30 < 4 else 0), hours=8)),
        Case("growth that would take days", _story(lambda t: 20 + t / 600, hours=24)),
        Case("a GPU's cache allocator finds its size", _story(lambda t: 20.0, hours=4, gpu=lambda t: 50 + 20 * (1 - 2.718 ** (-t / 8)))),
        Case("not known", lambda: (Tick(float(t), {"host": HostNow(), "gpus": []}) for t in range(0, 7200, 10))),
    )


def _figures(view: RunView) -> Iterator[tuple[str, float, float]]:
    host = view.host
    if host is not None and host.mem_used is not None and host.mem_total:
        yield HOST, float(host.mem_used), float(host.mem_total)
    for gpu in of_run(view):
        if gpu.mem_used is not None and gpu.mem_total:
            yield f"gpu{gpu.index}", float(gpu.mem_used), float(gpu.mem_total)


def _called(name: str) -> str:
    return "memory" if name == HOST else f"GPU {name.removeprefix('gpu')}'s memory"
