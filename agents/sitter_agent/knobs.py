"""Knobs that belong to no framework: the script's own ``get`` and ``set``, with bounds and a scale."""

import math
from collections.abc import Callable
from typing import Any, Literal

from sitter_agent.state import Knob
from sitter_wire.events import KnobSpec

EXPECT_REL = 1e-6
"""Relative difference up to which the value that a sender believed in counts as the present one."""
WATCH = 3
"""Safe points after a change in which the script is watched for writing the old value back."""

Scale = Literal["log", "log1m", "linear", "pow2"]


class FreeKnob:
    """A value behind ``get`` and ``set``. A change is written once; a held value is written again wherever the script moved it.

    The script's own schedule is not in sight here: ``scheduled`` is what the value would be had nobody scaled it.
    """

    def __init__(
        self, name: str, get: Callable[[], float], set: Callable[[float], object], low: float, high: float, scale: Scale,  # noqa: A002
    ) -> None:  # fmt: skip
        """Raises ValueError where bounds and scale make no sense."""
        check_bounds(name, low, high, scale)
        self.spec = KnobSpec(name=name, low=float(low), high=float(high), scale=scale)
        self.scale = 1.0
        self.held = False
        self._get, self._set = get, set
        self._pin: float | None = None
        """What it is held at."""
        self._was: float | None = None
        """Its value before the last change …"""
        self._watch = 0
        """… and safe points for which the script is still watched for writing that back."""

    def scheduled(self) -> float:
        """The value without our scale."""
        return unmoved(self.effective(), self.scale, self.spec.scale)

    @property
    def waits(self) -> bool:
        """Never: it is an attribute of the script's."""
        return False

    def effective(self) -> float:
        """What ``get`` says."""
        return float(self._get())

    def change(
        self, op: Literal["scale", "value"], amount: float, *, group: str | None, hold: bool
    ) -> tuple[float, float]:
        """(old, new). Raises ValueError, with nothing changed, where the new value is out of bounds or ``set`` did not take it."""
        if group is not None:
            raise ValueError(f"{self.spec.name} has no groups, so group {group!r} cannot be changed: leave it out")
        old = self.effective()
        new = moved(old, amount, self.spec.scale) if op == "scale" else amount
        if self.spec.scale == "pow2" and op == "scale":
            new = nearest_power(new)
        check_value(self.spec, new)
        self._write(new, old)
        self.scale = scale_between(unmoved(old, self.scale, self.spec.scale), new, self.spec.scale, self.scale)
        self.held, self._pin = hold, new if hold else None
        self._was, self._watch = old, WATCH
        return old, new

    def put_back(self, before: float, scale_then: float) -> None:
        """After a restore: where the state held this value, it came back as of then; our scale of now is put on it again."""
        now = self.effective()
        if self._pin is not None:
            self._set(self._pin)
        elif now != before and scale_then != self.scale:
            self._set(moved(unmoved(now, scale_then, self.spec.scale), self.scale, self.spec.scale))

    def settings(self) -> dict[str, Any]:
        """What ``change`` has done, with the value that it came to, as plain values: for a checkpoint. Empty where nothing has been."""
        if self.scale == 1.0 and self._pin is None:
            return {}
        return {"scale": self.scale, "held": self._pin, "value": self.effective()}

    def take_up(self, settings: dict[str, Any]) -> str:
        """Go on with ``settings()`` of an earlier process. The sentence that says so, or that the script's own value stands.

        What this process begins with may be the value of then, where the state held it: our scale is in it. It may be the value that our
        scale was on, since the script begins with it in every process. Any other is the script's own word. Raises ValueError, with nothing
        changed, where the value would be out of bounds or ``set`` does not take it.
        """
        name, now = self.spec.name, self.effective()
        scale, pin, then = float(settings["scale"]), settings["held"], float(settings["value"])
        if pin is not None:
            check_value(self.spec, float(pin))
            self._write(float(pin), now)
            self.scale, self.held, self._pin = scale, True, float(pin)
            return f"knob {name}: it is still held at {self._pin:g}"
        scheduled = unmoved(then, scale, self.spec.scale)
        if not _same(now, then):
            if not _same(now, scheduled):
                return f"knob {name}: the script begins with {now:g}, which stands: scale {scale:g} of the run was on {scheduled:g}"
            check_value(self.spec, then)
            self._write(then, now)
            self._was, self._watch = now, WATCH
        self.scale = scale
        return f"knob {name}: scale {scale:g} of the run goes on ({scheduled:g} → {then:g})"

    def keep(self) -> str | None:
        """At each safe point: pin a held value; a sentence where the script undid our change, which is then not repeated."""
        if self._pin is not None:
            if self.effective() != self._pin:
                self._set(self._pin)
            return None
        if self._watch:
            self._watch -= 1
            if self._was is not None and self.effective() == self._was:
                self._watch, self.scale = 0, 1.0
                return (
                    f"the script set {self.spec.name} back to {self._was:g}: give agent.knob() a get and set of what its own "
                    "schedule multiplies, or hold the value"
                )
        return None

    def _write(self, new: float, old: float) -> None:
        self._set(new)
        got = self.effective()
        if not _same(got, new):
            self._set(old)
            raise ValueError(
                f"{self.spec.name} was set to {new:g} and reads {got:g}: get() and set() must be of the same value"
            )


def _same(a: float, b: float) -> bool:
    """Up to what a float32 in between costs."""
    return math.isclose(a, b, rel_tol=EXPECT_REL, abs_tol=1e-300)


def check_bounds(name: str, low: float, high: float, scale: Scale) -> None:
    """Raises ValueError where they are not finite, not in order, or not what the scale can move in."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"knob {name}: bounds {low:g} … {high:g}, expected two finite numbers, the lower first")
    if scale in ("log", "pow2") and low <= 0:
        raise ValueError(f"knob {name}: a {scale} scale needs a lower bound above 0, found {low:g}")
    if scale == "log1m" and high >= 1:
        raise ValueError(f"knob {name}: a log1m scale needs an upper bound below 1, found {high:g}")


def check_value(spec: KnobSpec, value: float) -> None:
    """Raises ValueError where ``value`` is not one this knob may have."""
    if not math.isfinite(value):
        raise ValueError(
            f"{spec.name} = {value} is not a number to train with: choose one in {spec.low:g} … {spec.high:g}"
        )
    slack = 1e-9 * max(abs(spec.low), abs(spec.high))
    if not spec.low - slack <= value <= spec.high + slack:
        raise ValueError(
            f"{spec.name} = {value:g} is out of its bounds {spec.low:g} … {spec.high:g}: choose a value inside them"
        )
    if spec.scale == "pow2" and value != nearest_power(value):
        raise ValueError(f"{spec.name} = {value:g} is no power of two: the nearest is {nearest_power(value):g}")


def moved(value: float, factor: float, scale: Scale) -> float:
    """``value`` after a scale by ``factor``: β moves in 1−β, everything else is multiplied."""
    return 1.0 - (1.0 - value) * factor if scale == "log1m" else value * factor


def unmoved(value: float, factor: float, scale: Scale) -> float:
    """The value that ``moved`` by ``factor`` gives ``value``; itself where the factor is 0."""
    return moved(value, 1.0 / factor, scale) if factor else value


def scale_between(scheduled: float, effective: float, scale: Scale, otherwise: float) -> float:
    """The factor that takes ``scheduled`` to ``effective``; ``otherwise`` where there is none (from 0)."""
    base, now = (1.0 - scheduled, 1.0 - effective) if scale == "log1m" else (scheduled, effective)
    return now / base if base else otherwise


def nearest_power(value: float) -> float:
    """The power of two nearest on a log scale; ``value`` itself where it is not positive."""
    return 2.0 ** round(math.log2(value)) if value > 0 and math.isfinite(value) else value


def check_expected(knob: Knob, expect: float | None) -> None:
    """Raises ValueError where the sender believed in another value than the present one."""
    if expect is None:
        return
    now = knob.effective()
    if not math.isclose(now, expect, rel_tol=EXPECT_REL, abs_tol=0.0):
        raise ValueError(f"{knob.spec.name} is {now:g} now, not {expect:g} as was believed: look again, then decide")
