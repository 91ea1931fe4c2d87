"""Before and after of a changed rate, in numbers and without a claim: a cut lowers the loss at once and often costs later (DESIGN §7)."""

import logging
import math
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any

import msgspec

from sitter.rules.guard_signs import is_training_loss
from sitter_wire.events import KnobChanged, Restored, SessionStart
from sitter_wire.records import Happening, Point, Record

log = logging.getLogger(__name__)

VERDICT = "verdict"
"""What ``Verdicts`` keeps for the next daemon, which counts the points after the change anew."""
POINTS = 200
"""Finite losses before and after; their medians are told."""
LEAST = 20
"""With fewer before nothing is said."""
RATE = "lr"
NO_CLAIM = "no comparison: it might have gone so anyway"


class Change(msgspec.Struct, kw_only=True):
    """Changes of the rate in one go, such as a cut with its warm-up. ``before``: median of ``points`` losses up to ``first``."""

    by: list[str]
    old: float
    new: float
    first: int
    last: int
    times: int
    before: float
    points: int

    def __str__(self) -> str:
        who = ", ".join(self.by)
        how = f"at step {self.first:,}" if self.times == 1 else f"in {self.times} changes, steps {self.first:,} to {self.last:,}"
        return f"{RATE} {self.old:g} → {self.new:g} by {who} {how}"


class Verdicts:
    """Told of every record. A change costs one median; a point one place in a ring."""

    def __init__(self, log_entry: Callable[..., None], keep: Callable[[str, object], None]) -> None:
        self._log, self._keep = log_entry, keep
        self._signal = ""
        self._recent: deque[tuple[int, float]] = deque(maxlen=POINTS)
        self._change: Change | None = None
        self._after: list[float] = []

    def restore(self, kept: Any) -> None:
        """A change of which an earlier daemon had still to tell."""
        try:
            self._change = None if kept is None else msgspec.convert(kept, Change)
        except msgspec.ValidationError as e:  # of another version
            log.warning("what an earlier daemon had noted of a change is not understood: %s", e)

    def record(self, record: Record) -> None:
        """Every record, in order."""
        if isinstance(record, Point):
            if self._signal in record.names:
                self._loss(record.step, record.branch, record.values[record.names.index(self._signal)])
            else:
                self._choose(record.names)
        elif isinstance(record.event, KnobChanged):
            self._changed(record, record.event)
        elif isinstance(record.event, Restored):
            self._recent = deque((p for p in self._recent if p[0] <= record.event.step), maxlen=POINTS)
            self._let_go(record, f"the training went back to step {record.event.step:,}")
        elif isinstance(record.event, SessionStart):
            self._recent.clear()
            self._let_go(record, "another process has begun")

    def _choose(self, names: tuple[str, ...]) -> None:
        """``loss`` where it is logged, else what a training loss is called."""
        found = "loss" if "loss" in names else next((n for n in names if not self._signal and is_training_loss(n)), None)
        if found is not None:
            self._signal = found
            self._recent.clear()

    def _loss(self, step: int, branch: int, value: float) -> None:
        if not math.isfinite(value):
            return
        self._recent.append((step, value))
        if self._change is not None:
            self._after.append(value)
            if len(self._after) >= POINTS:
                self._tell(self._change, step, branch)

    def _tell(self, change: Change, step: int, branch: int) -> None:
        after = median(self._after)
        self._forget()
        text = (
            f"{change}: {self._signal} {change.before:.4g} before (median of {change.points} points up to step {change.first:,}), "
            f"{after:.4g} after (of {POINTS} up to step {step:,}); {NO_CLAIM}"
        )
        self._say(change, step, branch, "before / after", text)

    def _changed(self, at: Happening, event: KnobChanged) -> None:
        if event.knob != RATE or event.by == "resume":
            return
        who, change = event.by.removeprefix("rule:") or "operator", self._change
        if change is not None:
            change.new, change.last, change.times = event.new, at.step, change.times + 1
            change.by = change.by if who in change.by else [*change.by, who]
        elif len(self._recent) >= LEAST:
            self._change = Change(
                by=[who], old=event.old, new=event.new, first=at.step, last=at.step, times=1,
                before=median(value for _, value in self._recent), points=len(self._recent),
            )  # fmt: skip
        self._after.clear()
        self._keep(VERDICT, self._change)

    def _let_go(self, at: Happening, why: str) -> None:
        change = self._change
        if change is not None:
            self._forget()
            self._say(change, at.step, at.branch, "no verdict", f"{change}: no before and after, {why} before {POINTS} points had come")

    def _forget(self) -> None:
        self._change = None
        self._after.clear()
        self._keep(VERDICT, None)

    def _say(self, change: Change, step: int, branch: int, status: str, text: str) -> None:
        rule = change.by[0] if change.by != ["operator"] else None
        self._log("outcome", step=step, branch=branch, rule=rule, action=f"set {RATE}", status=status, detail=text)
