"""A GPU works in bursts: it is busy, has nothing to do, and is busy again."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import ClassVar

from sitter.model import Finding, GpuNow
from sitter.rules.base import RECOVERED, Case, Rule, RuleParams, Tick
from sitter.rules.gpu import of_run
from sitter.rules.steps import stepping
from sitter.rules.view import RunView

LOOKS = 500
"""Seconds, one look in each (SageMaker Debugger's window)."""
TAIL = 0.05
"""Of the looks lie beyond a 5th or 95th percentile."""
TURNS = 20
"""From busy to idle within the window: an evaluation on the CPU is one or two."""


class _Looks:
    """The last 500 looks at one GPU: each 1 (busy), -1 (idle) or 0 (between)."""

    def __init__(self) -> None:
        self.last: deque[tuple[int, int]] = deque()
        """Of each look what it was, and whether the GPU had turned idle since it was busy."""
        self.busy = self.idle = self.turns = 0
        self._was_busy = False
        self.said = False

    def add(self, is_: int) -> None:
        turned = int(is_ < 0 and self._was_busy)
        if is_:
            self._was_busy = is_ > 0
        self._count(is_, turned, 1)
        self.last.append((is_, turned))
        if len(self.last) > LOOKS:
            self._count(*self.last.popleft(), -1)

    def _count(self, is_: int, turned: int, by: int) -> None:
        self.busy += by * (is_ > 0)
        self.idle += by * (is_ < 0)
        self.turns += by * turned


def _told(util: Callable[[int], float | None], seconds: int = 2400, **facts: object) -> Iterator[Tick]:
    for t in range(seconds):
        gpu = GpuNow(index=0, uuid="GPU-0", name="H100", util=util(t), used_by_run=True)
        yield Tick(float(t), {"gpus": [gpu], "steps_per_s": 2.0, "safe_point_age": 0.2, **facts})


class GpuFluctuating(Rule):
    """Within 500 s a GPU was above 70 % for a twentieth of the time, below 10 % for a twentieth, and turned idle 20 times.

    The first two are SageMaker Debugger's bars for its 95th and 5th percentile. The third is ours: an evaluation on the CPU, or a
    checkpoint that is written, is a single turn, and no reason to change anything. What works in bursts waits in between: for data,
    for a value that the script reads back in each step (`.item()`, `print`), for another process. It is over when it has turned less
    than half as often.
    """

    name: ClassVar[str] = "gpu_fluctuating"
    title: ClassVar[str] = "GPU works in bursts"
    default_mode = "watch"

    class Params(RuleParams, frozen=True):
        """When. Percent."""

        busy: float = 70.0
        """Above is busy."""
        idle: float = 10.0
        """Below is idle."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._looks: dict[str, _Looks] = {}
        self._times = 0

    def tick(self, view: RunView, now: float) -> Finding | None:
        """A look at each GPU of the run, while it steps."""
        if not view.gpus or not view.in_session or view.paused or not stepping(view):
            return None
        for gpu in of_run(view):
            if gpu.util is None:
                continue
            looks = self._looks.get(gpu.uuid)
            if looks is None:
                looks = self._looks[gpu.uuid] = _Looks()
            looks.add((gpu.util > self.params.busy) - (gpu.util < self.params.idle))
            least = TAIL * LOOKS
            if looks.said:
                if looks.turns < TURNS / 2:
                    looks.said = False
                    return self._say(gpu, looks, view, over=True)
            elif looks.turns >= TURNS and looks.busy > least and looks.idle > least and len(looks.last) == LOOKS:
                looks.said = True
                self._times += 1
                return self._say(gpu, looks, view, over=False)
        return None

    def _say(self, gpu: GpuNow, looks: _Looks, view: RunView, *, over: bool) -> Finding:
        evidence: dict[str, float | int | str | None] = {
            "gpu": gpu.index, "busy": looks.busy / LOOKS, "idle": looks.idle / LOOKS, "turns": looks.turns
        }  # fmt: skip
        key = f"{self.name}:{gpu.index}:{self._times}"
        if over:
            text, evidence = f"GPU {gpu.index} works evenly again", {**evidence, RECOVERED: 1}
        else:
            text = (
                f"GPU {gpu.index} works in bursts: in the last {LOOKS} s it was idle {looks.turns} times, {looks.idle / LOOKS:.0%} of the "
                "time, and busy in between; it waits for data, or for the script to read values back in every step (.item(), print)"
            )
        return self.found("info" if over else "warning", text, step=view.step or 0, branch=view.branch, evidence=evidence, key=key)

    FIRES = (
        Case("5 s of work, 3 s of waiting", lambda: _told(lambda t: 95.0 if t % 8 < 5 else 2.0), says="idle 62 times"),
        Case("and it is over", lambda: _told(lambda t: 95.0 if t % 8 < 5 or t > 1000 else 2.0), says="evenly again"),
    )  # fmt: skip
    QUIET = (
        Case("steady", lambda: _told(lambda t: 95.0)),
        Case("an evaluation on the CPU of a minute every five", lambda: _told(lambda t: 0.0 if t % 300 < 60 else 95.0)),
        Case("checkpoints of 3 s every minute", lambda: _told(lambda t: 0.0 if t % 60 < 3 else 95.0)),
        Case("half busy all the time", lambda: _told(lambda t: 40.0 + t % 29)),
        Case("a small model", lambda: _told(lambda t: 30.0 if t % 4 else 0.0)),
        Case("the driver does not say", lambda: _told(lambda t: None)),
        Case("no GPU at all", lambda: (Tick(float(t), {"gpus": []}) for t in range(2000))),
        Case("before the first step", lambda: _told(lambda t: 95.0 if t % 8 < 5 else 2.0, safe_point_age=None)),
        Case("a long evaluation", lambda: (
            Tick(t.now, {**t.facts, "safe_point_age": t.now}) for t in _told(lambda t: 95.0 if t % 8 < 5 else 2.0)
        )),
        Case("paused", lambda: _told(lambda t: 95.0 if t % 8 < 5 else 2.0, paused=True)),
    )  # fmt: skip
