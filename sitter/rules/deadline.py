"""Whether the run will be done in time."""

import datetime
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from sitter.clock import human
from sitter.model import Finding, Notification
from sitter.rules.base import Case, Rule, RuleParams, Tick
from sitter.rules.latch import Latch
from sitter.rules.trouble import MachineRule
from sitter.rules.view import RunView

HOUR_S = 3600.0
LEAST_S = 1800.0
"""So long it must have gone on without a pause: one evaluation more or less is no speed."""
EVERY_S = 30.0
LASTS_S = 600.0
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def moment(text: str, now: float) -> float:
    """``Sat 09:00``, ``09:00`` (the next after ``now``, both local) or ISO 8601, in unix seconds. Raises ValueError."""
    words = text.strip().lower().split()
    day = next((i for i, name in enumerate(DAYS) if len(words) == 2 and len(words[0]) >= 3 and name.startswith(words[0])), None)
    if day is None and not (len(words) == 1 and len(words[0]) <= 5):
        try:
            return datetime.datetime.fromisoformat(text.strip()).timestamp()
        except ValueError:
            raise ValueError(f"deadline = {text!r}: expected `Sat 09:00`, `09:00` or `2026-03-14 09:00`") from None
    try:
        at = datetime.datetime.strptime(words[-1], "%H:%M").time()  # noqa: DTZ007 — a time of day has no zone
    except ValueError:
        raise ValueError(f"deadline = {text!r}: expected a time such as 09:00 in `{words[-1]}`") from None
    today = datetime.datetime.fromtimestamp(now)  # noqa: DTZ006 — local time is meant
    for ahead in range(8):
        there = datetime.datetime.combine(today.date() + datetime.timedelta(days=ahead), at)
        if there > today and (day is None or there.weekday() == day):
            return there.timestamp()
    raise ValueError(f"deadline = {text!r}: no such day within a week")


class _Clock:
    """In a case: both clocks stand at one time."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def wall(self) -> float:
        """The same."""
        return self.now


FRIDAY = datetime.datetime(2026, 3, 13, 8, 0).timestamp()  # noqa: DTZ001 — local time is meant
SATURDAY = {"deadline": "2026-03-14 09:00"}
"""25 hours later."""


def _told(rate: Callable[[float], float], hours: float, *, total: int | None = 90_000, **facts: object) -> Iterator[Tick]:
    """So many steps a second at a time in hours after Friday, 8 o'clock."""
    done = 0.0
    for i in range(round(hours * 360)):
        done += 10.0 * rate(i / 360)
        yield Tick(10.0 * i, {"clock": _Clock(FRIDAY + 10.0 * i), "step": int(done), "total": total, **facts})


class Deadline(MachineRule):
    """At the speed of the past hour the run will end more than an hour after your deadline.

    Set it with `deadline = "Sat 09:00"` (or `09:00`, or a date and time) under `[rules.deadline]`; without one the rule is off. The
    speed is that of a whole hour (half of one at the beginning), evaluations, checkpoints and what went wrong in it included, and
    pauses left out. The end must lie there for ten minutes. When the run would be in time again that is said, too. It tells somebody.
    """

    name: ClassVar[str] = "deadline"
    title: ClassVar[str] = "will not be done in time"
    default_mode = "act"  # it only tells somebody
    default_limit: ClassVar[str] = "6 per day"

    class Params(Rule.Params, frozen=True):
        """When the run should be done."""

        deadline: str = ""
        """``Sat 09:00``, ``09:00`` (the next one, local time), or ISO 8601 such as ``2026-03-14 09:00``; empty: there is none."""
        hours: float = 1.0
        """Later by more than this is a warning."""

        def __post_init__(self) -> None:
            """A deadline that cannot be read is said when it is read, not on Saturday."""
            if self.deadline:
                moment(self.deadline, time.time())

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._latch = Latch(LASTS_S, LASTS_S)
        self._hour: deque[tuple[float, int]] = deque()
        self._ends: float | None = None
        self._meant = ("", 0.0)

    def knowledge(self) -> Any:
        """Which Saturday was meant: the next daemon may begin after it."""
        return list(self._meant) if self._meant[0] else None

    def know(self, told: Any) -> None:
        """The same."""
        self._meant = str(told[0]), float(told[1])

    def tick(self, view: RunView, now: float) -> Finding | None:
        """A look every half minute."""
        text = self.params.deadline
        if not text:
            return None
        hour = self._hour
        if not view.in_session or view.paused or view.step is None or view.total is None:
            hour.clear()
            return None
        if hour and now - hour[-1][0] < EVERY_S:
            return None
        wall = view.clock.wall()
        if self._meant[0] != text:
            self._meant = text, moment(text, wall)
        if hour and view.step < hour[0][1]:
            hour.clear()  # gone back to before it
        hour.append((now, view.step))
        while now - hour[0][0] > HOUR_S + EVERY_S:
            hour.popleft()
        (since, first), left = hour[0], max(0, view.total - view.step)
        if now - since < LEAST_S or view.step <= first:
            return None
        rate = (view.step - first) / (now - since)
        ends = wall + left / rate
        late = ends - self._meant[1]
        margin = 0.0 if self._latch.is_on else HOUR_S * self.params.hours
        turn = self._latch.update(now, late > margin)
        return None if turn is None else self._say(turn == "on", ends, late, rate, view)

    def _say(self, is_late: bool, ends: float, late: float, rate: float, view: RunView) -> Finding | None:
        end, meant = _in_words(ends), _in_words(self._meant[1])
        how = f"at {rate:.3g} steps/s, those of the past hour, the run ends on {end}"
        evidence: dict[str, float | int | str | None] = {"ends_at": ends, "deadline": self._meant[1], "steps_per_s": rate}
        if not is_late:
            return self.ends(f"{how}: in time for {meant} again", view, evidence=evidence)
        text = f"{how}, {human(late)} after the deadline of {meant}"
        return self.says("warning", text, view, evidence=evidence, actions=[Notification(event="deadline", text=text)])

    FIRES = (
        Case("ends on Sunday",
             lambda: _told(lambda h: 0.7, 2), says="after the deadline of Sat 14 March, 09:00", acts=True, params=SATURDAY),
        Case("becomes slower", lambda: _told(lambda h: 1.1 if h < 5 else 0.7, 10), says="after the deadline", acts=True, params=SATURDAY),
        Case("and is in time again",
             lambda: _told(lambda h: 0.7 if h < 2 else 1.5, 6), says="in time for Sat 14 March, 09:00 again", params=SATURDAY),
    )  # fmt: skip
    QUIET = (
        Case("no deadline", lambda: _told(lambda h: 0.1, 10)),
        Case("in time", lambda: _told(lambda h: 1.1, 10), params=SATURDAY),
        Case("late by half an hour", lambda: _told(lambda h: 0.981, 10), params=SATURDAY),
        Case("an evaluation of 10 minutes every hour", lambda: _told(lambda h: 0.0 if h % 1 > 0.83 else 1.4, 10), params=SATURDAY),
        Case("the length is not known", lambda: _told(lambda h: 0.1, 10, total=None), params=SATURDAY),
        Case("paused", lambda: _told(lambda h: 0.0, 10, paused=True), params=SATURDAY),
        Case("stands still: that is another rule's", lambda: _told(lambda h: 0.0, 10), params=SATURDAY),
    )  # fmt: skip


def _in_words(wall: float) -> str:
    try:
        at = datetime.datetime.fromtimestamp(wall)  # noqa: DTZ006 — local time is meant
    except (OverflowError, OSError, ValueError):
        return "a day that no calendar has"
    return f"{at:%a} {at.day} {at:%B}, {at:%H:%M}"
