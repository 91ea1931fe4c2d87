"""A GPU is held back, and it costs clock."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

from sitter.model import Finding, GpuNow
from sitter.rules.base import RECOVERED, Case, Rule, RuleParams, Tick
from sitter.rules.gpu import of_run
from sitter.rules.steps import middle
from sitter.rules.view import RunView

HEAT = frozenset({"too hot (driver)", "too hot (hardware)", "hardware slowdown"})
POWER = frozenset({"power cap", "power brake"})
BUSY = 50.0
"""Percent: an idle GPU lowers its clock by itself."""
LOOKS = 60
"""Of a stretch: a minute of work."""
HOLDS = 0.8
"""Of the looks must name a reason."""
LEVEL = 10
"""Stretches whose middle is the clock that a GPU can hold: a minute's boost of a cold card is none."""


class _Watched:
    """One GPU."""

    def __init__(self) -> None:
        self.clocks: list[float] = []
        self.heat = self.power = 0
        self.stretches: deque[float] = deque(maxlen=LEVEL)
        self.best = 0.0
        self.slow = self.fast = 0
        """Stretches in a row."""
        self.said = ""

    def stretch(self) -> tuple[float, Literal["heat", "power", ""]] | None:
        """The clock of a whole minute of work, and what held it back; None while it is not whole."""
        if len(self.clocks) < LOOKS:
            return None
        clock = middle(self.clocks)
        why: Literal["heat", "power", ""] = "heat" if self.heat >= HOLDS * LOOKS else "power" if self.power >= HOLDS * LOOKS else ""
        self.clocks, self.heat, self.power = [], 0, 0
        return clock, why


def _told(clock: Callable[[int], float | None], why: Callable[[int], list[str]], minutes: int = 60, util: float = 97.0) -> Iterator[Tick]:
    for t in range(60 * minutes):
        known = clock(t // 60), why(t // 60)
        gpu = GpuNow(index=0, uuid="GPU-0", name="H100", util=util, sm_clock=known[0], throttle=known[1], temp=80.0, used_by_run=True)
        yield Tick(float(t), {"gpus": [gpu]})


class Throttled(Rule):
    """A GPU is held back by heat or by power for five minutes, and its clock lies well below what it held before in this run.

    The driver's reasons alone say little: a card that works hard touches its power cap all day. So the clock is asked too, in minutes of
    work: 15 % less for heat or a hardware slowdown, 30 % less for power, against the best ten minutes of this run (a cold card's boost
    of a minute is no level). A card that has been so since the beginning, as many a laptop's, is as fast as it is: nothing is said. Heat is
    a warning: a fan, the room, a neighbour. Power is noted: somebody has lowered the cap, or the supply is shared.
    """

    name: ClassVar[str] = "throttled"
    title: ClassVar[str] = "GPU held back"
    default_mode = "watch"

    class Params(RuleParams, frozen=True):
        """When."""

        heat: float = 0.15
        """Share of the clock that heat has cost."""
        power: float = 0.3
        """Share of the clock that power has cost: the same card clocks lower the harder it works."""
        minutes: int = 5
        """Of work, in a row."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._gpus: dict[str, _Watched] = {}
        self._times = 0

    def tick(self, view: RunView, now: float) -> Finding | None:
        """A look at each GPU of the run that works."""
        if not view.gpus or not view.in_session or view.paused:
            return None
        for gpu in of_run(view):
            if gpu.sm_clock is None or gpu.util is None or gpu.util < BUSY:
                continue
            watched = self._gpus.get(gpu.uuid)
            if watched is None:
                watched = self._gpus[gpu.uuid] = _Watched()
            watched.clocks.append(gpu.sm_clock)
            if gpu.throttle:
                watched.heat += not HEAT.isdisjoint(gpu.throttle)
                watched.power += not POWER.isdisjoint(gpu.throttle)
            whole = watched.stretch()
            if whole is not None and (found := self._judged(gpu, watched, *whole, view)) is not None:
                return found
        return None

    def _judged(self, gpu: GpuNow, watched: _Watched, clock: float, why: str, view: RunView) -> Finding | None:
        watched.stretches.append(clock)
        if len(watched.stretches) == LEVEL:
            watched.best = max(watched.best, middle(list(watched.stretches)))
        lost = 1.0 - clock / watched.best if watched.best else 0.0
        bars = {"heat": self.params.heat, "power": self.params.power}
        slow = bool(why) and lost >= bars[why]
        watched.slow, watched.fast = (watched.slow + 1, 0) if slow else (0, watched.fast + 1)
        key = f"{self.name}:{gpu.index}:{self._times}"
        evidence: dict[str, float | int | str | None] = {"gpu": gpu.index, "clock": clock, "best_clock": watched.best, "lost": lost}
        if watched.said and watched.fast >= self.params.minutes:
            watched.said = ""
            text = f"GPU {gpu.index} is held back no more: {clock:.0f} MHz"
            return self.found("info", text, step=view.step or 0, branch=view.branch, key=key, evidence={**evidence, RECOVERED: 1})
        if watched.said or watched.slow < self.params.minutes:
            return None
        watched.said = why
        self._times += 1
        by, then = ("heat", "look at its fans, its neighbours and the room") if why == "heat" else ("power", "look at its power limit")
        at = f" at {gpu.temp:.0f} °C" if why == "heat" and gpu.temp is not None else ""
        text = (
            f"GPU {gpu.index} has been held back by {by} for {self.params.minutes} min ({', '.join(gpu.throttle) or why}){at}: "
            f"{clock:.0f} MHz, {lost:.0%} less than the {watched.best:.0f} MHz it held before; {then}"
        )
        return self.found(
            "warning" if why == "heat" else "info", text, step=view.step or 0, branch=view.branch, evidence=evidence,
            key=f"{self.name}:{gpu.index}:{self._times}",
        )  # fmt: skip

    FIRES = (
        Case("too hot after 20 minutes",
             lambda: _told(lambda m: 1900.0 if m < 20 else 1400.0, lambda m: ["too hot (driver)"] if m >= 20 else []),
             says="26% less than the 1900 MHz"),
        Case("somebody lowers the cap",
             lambda: _told(lambda m: 1700.0 if m < 20 else 1000.0, lambda m: ["power cap"]), says="held back by power"),
        Case("and it is over",
             lambda: _told(lambda m: 1400.0 if 20 < m < 40 else 1900.0, lambda m: ["too hot (driver)"] if 20 < m < 40 else []),
             says="held back no more"),
    )  # fmt: skip
    QUIET = (
        Case("at its power cap all day", lambda: _told(lambda m: 1980.0 if m < 2 else 1500.0 + m % 7 * 20, lambda m: ["power cap"], 240)),
        Case("a laptop that is hot from the beginning on",
             lambda: _told(lambda m: 1200.0 + m % 5 * 40, lambda m: ["too hot (driver)"], 240)),
        Case("hot for a few minutes",
             lambda: _told(lambda m: 1400.0 if m % 30 > 26 else 1900.0, lambda m: ["too hot (driver)"] if m % 30 > 26 else [])),
        Case("lower clocks for no reason that is told", lambda: _told(lambda m: 1900.0 if m < 20 else 1000.0, lambda m: [])),
        Case("idle, with the clock down", lambda: _told(lambda m: 1900.0 if m < 20 else 345.0, lambda m: ["too hot (driver)"], util=3.0)),
        Case("the driver does not say", lambda: _told(lambda m: None, lambda m: [])),
        Case("no GPU at all", lambda: (Tick(float(t), {"gpus": []}) for t in range(2000))),
    )  # fmt: skip
