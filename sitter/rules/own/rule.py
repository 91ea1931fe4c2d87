"""A rule of the user's own: a condition, how long it must hold, what is proposed."""

import math
import string
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec

from sitter.clock import duration, human
from sitter.model import Afterwards, Finding, Notification, Proposable, Severity
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.own.afterwards import afterwards
from sitter.rules.own.expression import Expression, ExpressionError, Memory, Value
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Rollback

GONE_POINTS = 10
"""So many judgements it must be false before it can be found again: what flutters around a bound is one trouble."""


UNLOGGED_S = 1800.0
"""So long a signal may be unknown before that is said: a validation may take its time."""


class OwnParams(Rule.Params, frozen=True):
    """``[rules.NAME]`` of a rule that sitter has no file for."""

    when: str
    """The condition: ``median(loss, 50) > 1.3 * best(loss)``."""
    lasting: str = msgspec.field(name="for", default="")
    """How long it must hold without a break: ``100 steps``, ``20 points``, ``10m``; empty: once."""
    do: str | list[str] = ""
    """What is proposed: ``lr=0.5x``, ``rollback``, ``checkpoint``, ``pause``, ``stop``, ``drop 200``, ``notify``; several in a list."""
    warmup: str = ""
    """Of a knob that ``do`` changes: ``200 steps`` in which it goes from a tenth of its new value up to it."""
    back_after: str = ""
    """``2000 steps``: after so many healthy ones in a row what ``do`` changed on a knob is given back; empty: it stays."""
    severity: Severity = "warning"
    """``info``, ``warning`` or ``critical``."""
    text: str = ""
    """What is said: ``loss {loss:.3g} at step {step}``; empty: the condition and its values."""


@dataclass(frozen=True, slots=True)
class Lasting:
    """How long something must hold: in steps, in points at which it was judged, or in seconds."""

    amount: float = 0.0
    unit: Literal["steps", "points", "seconds"] = "points"

    def __str__(self) -> str:
        return human(self.amount) if self.unit == "seconds" else f"{self.amount:,.0f} {self.unit}"


def lasting(text: str) -> Lasting:
    """``100 steps``, ``20 points``, ``10m``. Raises ExpressionError, also for a number without a word: steps or seconds?"""
    words = text.split()
    if not words:
        return Lasting()
    if len(words) == 2 and words[1].rstrip("s") in ("step", "point") and words[0].replace(",", "").isdigit():
        return Lasting(float(words[0].replace(",", "")), "steps" if words[1].startswith("step") else "points")
    try:
        seconds = duration(text) if text.strip()[-1].isalpha() else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < 1e9:
        said = f"for = {text!r}: expected steps, points or a length of time, such as '100 steps', '20 points' or '10m'"
        raise ExpressionError(said, "for")
    return Lasting(seconds, "seconds")


@dataclass(slots=True)
class _Since:
    """A stretch in which the condition said the same. None: it says nothing, or the other thing."""

    step: int = 0
    time: float = 0.0
    points: int = 0

    def lasts(self, wanted: Lasting, step: int, time: float) -> bool:
        passed = {"steps": step - self.step, "points": self.points, "seconds": time - self.time}[wanted.unit]
        return passed >= wanted.amount


@dataclass(slots=True)
class _Memory:
    expression: Memory = field(default_factory=Memory)
    true: _Since | None = None
    false: _Since | None = None


class Own(Rule):
    """Base of the rules that are made from ``sitter.toml``; see ``make``."""

    name: ClassVar[str] = "own"
    title: ClassVar[str] = "a rule of your own"
    default_mode = "ask"
    default_limit: ClassVar[str] = "6 per day"
    remembers = _Memory
    memory: _Memory
    expression: ClassVar[Expression]
    actions: ClassVar[tuple[Proposable, ...]] = ()
    lasting: ClassVar[Lasting] = Lasting()
    afterwards: ClassVar[Afterwards | None] = None
    Params = OwnParams

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._times = 0
        self._key = ""
        """Of the finding that still stands; empty: none does."""
        self._at = (0, 0)
        """(branch, step) at which that was found."""
        self._seen: int | None = None
        """The first step at which it was judged; what was so already then may be older."""
        self._began: float | None = None
        self._told_unlogged = False

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """Judged whenever one of its signals was logged."""
        expression, memory = self.expression, self.memory.expression
        if expression.by_step:
            expression.second(memory, view)
        expression.take(memory, sample.values, sample.step, view)
        return self._judged(expression.value(memory, view), sample.step, sample.branch, sample.time, view)

    def standing(self, view: RunView) -> Finding | None:
        """What was found in the past and is still so is told again, now with its actions: the same finding, so it is acted on once."""
        since = self.memory.true
        if not self._key or since is None:
            return None
        return self._found(since, self._at[1], self._at[0], view)

    def knowledge(self) -> dict[str, Any] | None:
        """What it has found, so that the next daemon finds nothing twice."""
        return {"times": self._times, "key": self._key, "at": list(self._at)} if self._times else None

    def know(self, told: Any) -> None:
        """The same trouble, where it still stands and was found no earlier than what was seen of the past says, or is older than that."""
        times, key, at = int(told["times"]), str(told["key"]), (int(told["at"][0]), int(told["at"][1]))
        since = self.memory.true
        if key and self._key and since is not None and (at[1] >= self._at[1] or since.step == self._seen):
            self._key, self._at, self._times = key, at, times
        elif self._key:
            self._times = max(self._times, times + 1)
            self._key = f"{self.name}:{self._times}"
        else:
            self._times = max(self._times, times)

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Judged every second where it is made of facts alone, and not of such as change with the steps."""
        expression, memory = self.expression, self.memory.expression
        if not view.in_session or view.paused or expression.by_step:
            return None
        expression.second(memory, view)
        if expression.signals:
            return self._unlogged(view, now)
        return self._judged(expression.value(memory, view), view.step or 0, view.branch, now, view)

    def _unlogged(self, view: RunView, now: float) -> Finding | None:
        """Says once that a signal it needs does not come: its name may be wrong."""
        self._began = now if self._began is None else self._began
        if self._told_unlogged or now - self._began < UNLOGGED_S:
            return None
        missing = sorted(self.expression.signals - self.memory.expression.values.keys())
        self._told_unlogged = True
        if not missing:
            return None
        text = f"waits for {', '.join(missing)}, which has not been logged for {human(UNLOGGED_S)}: it says nothing until then"
        return self.found("info", text, step=view.step or 0, branch=view.branch, key=f"{self.name}:unlogged")

    def _judged(self, value: Value, step: int, branch: int, time: float, view: RunView) -> Finding | None:
        memory = self.memory
        if value is None:
            return None
        self._seen = step if self._seen is None else self._seen
        if value:
            memory.false = None
            memory.true = since = memory.true or _Since(step, time)
        else:
            memory.true = None
            memory.false = since = memory.false or _Since(step, time)
        since.points += 1
        if bool(value) == bool(self._key) or not since.lasts(self.lasting, step, time):
            return None
        if value:
            self._times, self._at = self._times + 1, (branch, step)
            self._key = f"{self.name}:{self._times}"
            return self._found(since, step, branch, view)
        if since.points < GONE_POINTS:
            return None
        key, self._key = self._key, ""
        evidence = {**self.expression.evidence(memory.expression, view), RECOVERED: 1}
        return self.found("info", f"no longer so: {self._values(evidence)}", step=step, branch=branch, evidence=evidence, key=key)

    def _found(self, since: _Since, step: int, branch: int, view: RunView) -> Finding:
        evidence = self.expression.evidence(self.memory.expression, view)
        held = f" for {self.lasting}" if self.lasting.amount else ""
        text = _filled(self.params.text, evidence, step) if self.params.text else f"{self.expression.text}{held}: {self._values(evidence)}"
        actions = [self._aimed(action, since.step, text) for action in self.actions]
        return self.found(
            self.params.severity, text, step=step, branch=branch, onset=since.step, evidence=evidence, actions=actions, key=self._key,
            afterwards=self.afterwards,
        )  # fmt: skip

    def _aimed(self, action: Proposable, onset: int, text: str) -> Proposable:
        """Going back means to before it began; telling somebody means telling this; and why is this as well."""
        if isinstance(action, Rollback) and action.to is None:
            return msgspec.structs.replace(action, before=max(onset - 1, 0), why=text)
        if getattr(action, "why", None) == "":
            return msgspec.structs.replace(action, why=text)
        if isinstance(action, Notification) and not action.text:
            return msgspec.structs.replace(action, text=text)
        return action

    @staticmethod
    def _values(evidence: dict[str, float | int | str | None]) -> str:
        return ", ".join(f"{name} {_number(value)}" for name, value in evidence.items() if name != RECOVERED)


def make(name: str, params: OwnParams, actions: list[Proposable]) -> Own:
    """A rule of that name. Raises ExpressionError: its ``when``, ``for`` or ``text``."""
    expression, lasts = Expression(params.when), lasting(params.lasting)
    if not expression.is_condition:
        raise ExpressionError(f"{expression.text!r} is no condition: expected a comparison, such as loss > 3")
    if not expression.shown:
        raise ExpressionError(f"{expression.text!r} names no signal and no fact: it would always be the same")
    check_text(params.text, expression)
    page = f"{params.when.strip()}\n\n    A rule of your own, from sitter.toml."
    its: dict[str, object] = {"name": name, "title": _short(expression.text), "__doc__": page, "expression": expression}
    its |= {"signals": None if expression.by_step else tuple(sorted(expression.signals)), "lasting": lasts, "actions": tuple(actions)}
    its["afterwards"] = afterwards(params, actions) if actions else None
    kind: type[Own] = type("Own", (Own,), its)
    return kind(params)


def check_text(text: str, expression: Expression) -> None:
    """Raises ExpressionError where ``text`` asks for what the condition does not name."""
    try:
        wanted = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError as e:
        raise ExpressionError(f"text = {text!r}: {e}", "text") from None
    known = {"step", *expression.shown}
    for name in wanted:
        if name not in known:
            raise ExpressionError(f"text = {text!r} has no value for {{{name}}}: expected one of {', '.join(sorted(known))}", "text")


def _filled(text: str, evidence: dict[str, float | int | str | None], step: int) -> str:
    out = ""
    for literal, name, spec, _ in string.Formatter().parse(text):
        out += literal
        if name is not None:
            value: Any = {**evidence, "step": step}.get(name)
            try:
                out += format(value, spec or "") if spec else _number(value)
            except (ValueError, TypeError):
                out += _number(value)
    return out


def _number(value: float | int | str | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
