"""Evaluation, checkpoints and other pauses eat the time in which the training could step."""

from collections import deque
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from sitter.clock import human
from sitter.model import Finding
from sitter.rules.base import Case, RuleParams
from sitter.rules.steps import StepRule, in_words, middle, seconds_of, steps
from sitter.rules.view import RunView, Sample
from sitter_wire.events import SnapshotTaken
from sitter_wire.records import Happening

WINDOW_S = 7200.0
"""Seconds that are looked at, and …"""
SPAN_S = 60.0
"""… in what pieces."""
LEAST_S = 1800.0
"""So much must have been seen."""
FEWEST = 3
"""Pauses: one may be the only one."""
LONG = 4.0
"""Times the usual step: more than noise, less than an evaluation."""
OVER = 0.7
"""It is over below so much of the bar."""


class _Span(NamedTuple):
    """Seconds in all, and how many steps; seconds in the script's long steps beyond the usual, of these the longest, between steps, and of
    these in snapshots. And how many long steps there were."""

    seconds: float
    steps: int
    long: float
    longest: float
    between: float
    snapshots: float
    pauses: int


def _evaluated(every: int, seconds: float, count: int = 40_000, step: float = 0.5) -> Iterator[Sample]:
    return steps(lambda i, t: seconds if i % every == every - 1 else step, count)


class Overhead(StepRule):
    """A tenth of the time or more goes into something other than steps: evaluation, checkpoints, snapshots, what lies between epochs.

    Known from the steps alone: a step that takes four times the usual or more, its waiting for data left out, does something beside; and
    what passes between the end of a step and the beginning of the next is the time of snapshots, and of what a script does between its
    epochs. Looked at are the last two hours; at least half an hour, and three pauses, of which the longest is left out, so that a
    compilation does not count. Time in which you have paused the training does not count either. It is noted, and from a half on it is a
    warning; what it is worth to you to know often how good the model is, only you know.
    """

    name: ClassVar[str] = "overhead"
    title: ClassVar[str] = "time not spent in steps"
    default_mode = "watch"

    class Params(RuleParams, frozen=True):
        """When."""

        note: float = 0.1
        """Share of the time; noted."""
        warn: float = 0.5
        """Share of the time; a warning."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._level = 0  # of what was said: 1 noted, 2 a warning
        self.begin_anew()

    def begin_anew(self) -> None:
        """Another process."""
        self._spans: deque[_Span] = deque()
        self._seconds = 0.0
        self._open = _Span(0.0, 0, 0.0, 0.0, 0.0, 0.0, 0)
        self._usual: deque[float] = deque(maxlen=8)
        self._snapshots = 0.0
        self._ended: tuple[float, int] | None = None  # when, and with which step, the block before this one did
        self._first = True

    def happened(self, happening: Happening, view: RunView) -> None:
        """A snapshot says what it took. Over a pause no time is counted."""
        if isinstance(happening.event, SnapshotTaken):
            self._snapshots += happening.event.seconds
            return
        block = self._block
        super().happened(happening, view)
        if self._block is not block:
            self._ended, self._snapshots = None, 0.0

    def judge(self, block: list[Sample], view: RunView) -> Finding | None:
        """Add up a block; look once a minute."""
        took = seconds_of(block)
        self._usual.append(middle(took))
        usual = middle(list(self._usual))
        ended, self._ended = self._ended, (block[-1].time, block[-1].step)
        snapshots, self._snapshots = self._snapshots, 0.0
        if self._first or block[-1].step - block[0].step != len(block) - 1:  # not all are told: what lies between them is not known
            self._first = False
            return None
        begun = ended[0] if ended is not None and ended[1] + 1 == block[0].step else block[0].time - took[0]
        elapsed = block[-1].time - begun
        bar = LONG * usual
        more = [s.values["step_time"] - s.values.get("data_wait", 0.0) - usual for s in block] if max(took) > bar else []
        long = [seconds for seconds in more if seconds > bar]
        between = max(0.0, elapsed - sum(took))
        o = self._open
        self._open = o = _Span(
            o.seconds + elapsed, o.steps + len(block),
            o.long + sum(long), max([o.longest, *long]), o.between + between, o.snapshots + min(between, snapshots),
            o.pauses + len(long),
        )  # fmt: skip
        if o.seconds < SPAN_S:
            return None
        self._open = _Span(0.0, 0, 0.0, 0.0, 0.0, 0.0, 0)
        self._spans.append(o)
        self._seconds += o.seconds
        while len(self._spans) > 1 and self._seconds - self._spans[0].seconds >= WINDOW_S:
            self._seconds -= self._spans.popleft().seconds
        return self._judged(usual, block[-1]) if self._seconds >= LEAST_S else None

    def _judged(self, usual: float, newest: Sample) -> Finding | None:
        spans = self._spans
        longest, count = max([s.longest for s in spans]), sum([s.pauses for s in spans])
        seconds, between = self._seconds - longest, sum([s.between for s in spans])
        long = sum([s.long for s in spans]) - longest if count > FEWEST else 0.0
        share = (long + between) / seconds
        level = (share >= self.params.note) + (share >= self.params.warn)
        if self._level and share < OVER * self.params.note:
            self._level = 0
            return self.ends(f"all but {share:.0%} of the time goes into steps again", newest, evidence={"share": share})
        if level <= self._level:
            return None
        self._level = level
        snapshots = sum([s.snapshots for s in spans])
        each, apart = _each(long / max(1, count - 1)), round(sum([s.steps for s in spans]) / max(1, count))
        parts: list[tuple[float, str]] = [
            (long, f"{count} long steps of about {each}, one in {apart} (evaluate or save less often, or on fewer batches)"),
            (snapshots, "sitter's snapshots"),
            (between - snapshots, "what lies between steps (evaluation between epochs, workers that start anew: persistent_workers=True)"),
        ]
        said = "; ".join([f"{part / seconds:.0%} into {what}" for part, what in sorted(parts, reverse=True) if part >= 0.02 * seconds])
        text = f"{share:.0%} of the last {human(self._seconds)} did not go into steps of {in_words(usual)}: {said}"
        return self.says(
            "warning" if level == 2 else "info", text, newest,
            evidence={
                "share": share, "long_s": long, "between_s": between, "snapshots_s": snapshots, "long_steps": count, "usual_s": usual,
            },
        )  # fmt: skip

    FIRES = (
        Case("evaluations of 1,000 steps' time every 500 steps", lambda: _evaluated(500, 500.0), says="long steps of about 8 m"),
        Case("a fifth for evaluations", lambda: _evaluated(1000, 125.0), says="less often"),
        Case("between epochs",
             lambda: steps(lambda i, t: 0.5, 20_000, gap=lambda i: 60.0 if i % 300 == 0 else 0.0), says="into what lies between steps"),
        Case("and it is over",
             lambda: steps(lambda i, t: 100.0 if i < 9000 and i % 500 == 0 else 0.5, 40_000), says="goes into steps again"),
    )  # fmt: skip
    QUIET = (
        Case("steady", lambda: steps(lambda i, t: 0.5, 20_000)),
        Case("evaluations that take a twentieth", lambda: _evaluated(1000, 25.0)),
        Case("compiles for an hour, and again for half of one", lambda: steps(lambda i, t: {0: 3600.0, 70: 1800.0}.get(i, 0.5), 20_000)),
        Case("a noisy machine", lambda: steps(lambda i, t: 0.5 * (1 + (i * 7919 % 101) / 60), 20_000)),
        Case("long steps that wait for data",
             lambda: steps(lambda i, t: 20.0 if i % 100 == 0 else 0.5, 20_000, wait=lambda i, t: 19.5 if i % 100 == 0 else 0.0)),
        Case("a checkpoint of 5 s every ten minutes", lambda: _evaluated(1200, 5.5)),
        Case("micro-seconds between steps", lambda: steps(lambda i, t: 0.01, 200_000, gap=lambda i: 0.0005)),
    )  # fmt: skip


def _each(seconds: float) -> str:
    return human(seconds) if seconds >= 10.0 else in_words(seconds)
