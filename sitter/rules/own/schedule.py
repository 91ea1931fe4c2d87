"""A rule of the user's own that goes by the step or by the clock: every so often, or at a step or a time."""

import datetime
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from sitter.clock import duration, human
from sitter.model import Afterwards, Finding, Notification, Proposable, Severity
from sitter.rules.base import Rule, RuleParams
from sitter.rules.own.afterwards import afterwards
from sitter.rules.own.expression import ExpressionError
from sitter.rules.view import RunView, Sample

LEAD_S = 10.0
"""So long before its step an order is sent: it waits in the training process, and is carried out at that step's safe point exactly."""
LEAST_LEAD = 200
"""Steps; at least so many, while the rate is not known yet, and for a run that becomes quicker."""
LATE_S = 3600.0
"""A time that passed longer ago (the host slept, nobody watched) is let go."""

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME = re.compile(r"(?:(?P<day>[A-Za-z]{3,})\s+)?(?P<hour>\d{1,2}):(?P<minute>\d{2})")


class ScheduleParams(Rule.Params, frozen=True):
    """``[rules.NAME]`` with ``every`` or ``at`` in place of ``when``."""

    every: str = ""
    """``1000 steps``, ``30m``, ``2h``."""
    at: int | str = ""
    """A step, carried out at its safe point exactly; or a time of the daemon's zone: ``09:00`` every day, ``Sat 09:00`` every week."""
    branch: int | None = None
    """With a step: only on this branch."""
    do: str | list[str] = ""
    """What is proposed, as of every rule of your own."""
    warmup: str = ""
    """Of a knob that ``do`` changes: ``200 steps`` in which it goes from a tenth of its new value up to it."""
    back_after: str = ""
    """``2000 steps``: after so many healthy ones in a row what ``do`` changed on a knob is given back; empty: it stays."""
    severity: Severity = "info"
    """``info``, ``warning`` or ``critical``."""
    text: str = ""
    """What is said; empty: when it is."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of day, and of the week where ``weekday`` (Monday 0) is given."""

    hour: int
    minute: int
    weekday: int | None = None

    def after(self, wall: float) -> float:
        """The next one after a time (unix seconds), in the zone of this host."""
        now = datetime.datetime.fromtimestamp(wall).astimezone()
        for days in range(9):
            day = (now + datetime.timedelta(days=days)).date()
            if self.weekday is None or day.weekday() == self.weekday:
                at = datetime.datetime.combine(day, datetime.time(self.hour, self.minute)).astimezone().timestamp()
                if at > wall:
                    return at
        raise AssertionError("a week has every day of the week")  # unreachable: nine days hold each of them


def moment(text: str) -> Moment:
    """``09:00``, ``Sat 09:00``. Raises ExpressionError."""
    found = _TIME.fullmatch(text.strip())
    if found is not None and int(found["hour"]) < 24 and int(found["minute"]) < 60:
        day = (found["day"] or "").lower()
        weekday = next((number for number, name in enumerate(DAYS) if day and name.startswith(day)), None)
        if not day or weekday is not None:
            return Moment(int(found["hour"]), int(found["minute"]), weekday)
    raise ExpressionError(f"at = {text!r}: expected a step such as 12000, or a time such as 09:00 or 'Sat 09:00'")


def span(text: str) -> tuple[float, Literal["steps", "seconds"]]:
    """``1000 steps``, ``30m``. Raises ExpressionError, also for a number without a word: steps or seconds?"""
    words = text.replace(",", "").split()
    try:
        if len(words) == 2 and words[1] in ("step", "steps") and int(words[0]) > 0:
            return float(int(words[0])), "steps"
        seconds = duration(text) if text.strip()[-1:].isalpha() else 0.0
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds < 1e9:
        raise ExpressionError(f"every = {text!r}: expected steps or a length of time, such as '1000 steps', '30m' or '2h'")
    return seconds, "seconds"


class Scheduled(Rule):
    """Base of the rules that are made from ``sitter.toml``; see ``make``."""

    name: ClassVar[str] = "scheduled"
    title: ClassVar[str] = "by the clock"
    default_mode = "ask"
    default_limit: ClassVar[str] = ""
    cools: ClassVar[bool] = False
    actions: ClassVar[tuple[Proposable, ...]] = ()
    afterwards: ClassVar[Afterwards | None] = None
    Params = ScheduleParams

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._times = 0

    def _fires(self, step: int, branch: int, said: str, *, at: int | None = None) -> Finding:
        self._times += 1
        text = self.params.text or said
        actions = [
            msgspec.structs.replace(a, text=text) if isinstance(a, Notification) and not a.text
            else msgspec.structs.replace(a, why=text) if getattr(a, "why", None) == "" else a
            for a in self.actions
        ]  # fmt: skip
        found = self.found(
            self.params.severity, text, step=step, branch=branch, actions=actions, key=f"{self.name}:{self._times}",
            afterwards=self.afterwards,
        )  # fmt: skip
        return found if at is None else msgspec.structs.replace(found, at=at)


class _EveryStep(Scheduled):
    steps: ClassVar[int] = 1

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """At the first point of a new stretch; a stretch gone through again after a restore counts again."""
        now, last = sample.step // self.steps, self.memory
        self.memory = now
        if last is None or now <= last:
            return None
        return self._fires(sample.step, sample.branch, f"step {now * self.steps:,}: {self.steps:,} steps have passed")


class _EverySecond(Scheduled):
    seconds: ClassVar[float] = 1.0

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._last: float | None = None

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Of a training that runs."""
        if not view.in_session or view.paused:
            return None
        self._last = now if self._last is None else self._last
        if now - self._last < self.seconds:
            return None
        self._last = now
        return self._fires(view.step or 0, view.branch, f"{human(self.seconds)} have passed")


class _AtTime(Scheduled):
    moment: ClassVar[Moment] = Moment(0, 0)

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._due: float | None = None
        self._seen = 0.0
        """The wall clock at the last look."""

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Of a training that runs. Where the wall clock was turned back, the next time is looked up anew: after a day that was only passed
        by mistake it is sooner."""
        wall = view.clock.wall()
        was, self._seen = self._seen, wall
        if self._due is None or wall < was - LATE_S:
            self._due = self.moment.after(wall)
        if wall < self._due:
            return None
        late, self._due = wall - self._due, self.moment.after(wall)
        if late > LATE_S or not view.in_session or view.paused:
            return None
        return self._fires(view.step or 0, view.branch, f"it is {self.params.at}")


class _AtStep(Scheduled):
    step: ClassVar[int] = 0

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._done = False
        self._last: int | None = None

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """A little before its step, once; not where the run is past it already, but for a branch that begins right there."""
        wanted = self.params.branch
        if self._done or (wanted is not None and sample.branch != wanted):
            return None
        last, self._last = self._last, sample.step
        apart = sample.step - last if last is not None else 0  # what is logged seldom may be logged next behind its step
        lead = max(LEAST_LEAD, int(LEAD_S * (view.steps_per_s or 0.0)), 2 * apart)
        if sample.step < self.step - lead:
            return None
        self._done = True
        if sample.step > self.step and not (wanted is not None and last is None and sample.step - self.step <= LEAST_LEAD):
            return None
        return self._fires(sample.step, sample.branch, f"step {self.step:,}", at=self.step)


def make(name: str, params: ScheduleParams, actions: list[Proposable]) -> Scheduled:
    """A rule of that name. Raises ExpressionError: neither or both of ``every`` and ``at``, or what they say."""
    if bool(params.every) == (params.at != ""):
        raise ExpressionError("expected one of `when`, `every` and `at`")
    base, its, title = _kind(params)
    if params.branch is not None and base is not _AtStep:
        raise ExpressionError("branch: expected only beside a step in `at`", "branch")
    page = f"{title}\n\n    A rule of your own, from sitter.toml."
    its |= {"name": name, "title": title, "__doc__": page, "actions": tuple(actions)}
    its["afterwards"] = afterwards(params, actions) if actions else None
    kind: type[Scheduled] = type("Scheduled", (base,), its)
    return kind(params)


def _kind(params: ScheduleParams) -> tuple[type[Scheduled], dict[str, object], str]:
    """Its class, what that needs to know, and its title."""
    if params.every:
        amount, unit = span(params.every)
        title = f"every {params.every}"
        return (_EveryStep, {"steps": int(amount)}, title) if unit == "steps" else (_EverySecond, {"seconds": amount}, title)
    if isinstance(params.at, int) or params.at.replace(",", "").strip().isdigit():
        step = int(str(params.at).replace(",", ""))
        if step < 0:
            raise ExpressionError(f"at = {step}: expected a step such as 12000, or a time such as 09:00 or 'Sat 09:00'")
        return _AtStep, {"step": step}, f"at step {step:,}"
    return _AtTime, {"moment": moment(params.at)}, f"at {params.at}"
