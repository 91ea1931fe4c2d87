"""What the guard sees: what is usual for loss and gradient norm, and what is odd now. Nothing about what was done."""

import math
from collections import deque
from itertools import pairwise
from typing import Literal, NamedTuple

from sitter.rules.course import Grain, Witnesses
from sitter.rules.guard_best_rate import BestRate
from sitter.rules.guard_excursion import Excursion
from sitter.rules.guard_rate import Rate
from sitter.rules.guard_shift import NEW_POINTS, Level
from sitter.rules.memory import Memory
from sitter.rules.robust import WINDOW, Robust, median
from sitter.rules.view import RunView
from sitter_wire.layer_names import of_layer

CLEAN_POINTS = 3
"""Logged points without suspicion in a row that end a suspicion (PROTOCOL: snapshots that may be trusted)."""

GRAD_ODD = 3.0
"""A gradient norm is suspicious from this multiple of its usual level on: with its long tails the z alone says little."""

HIGH_POINTS, HIGH_OF = 4, 5
"""A loss that stands suspiciously high in so many of its last points has not had a bad batch. With noisy losses (small batches) even
shuffled labels stay below 8 sigma."""

HELD_OUT = WINDOW // 2
"""Points in a row that may be kept out of what is usual because they are high; more, and it is learned as any other level."""

DENSE_GAP = 10
"""Steps between two gradient norms up to which one spike is evidence. Whoever sees one step in a hundred and finds a spike in it has
most likely not seen many others, which did no harm: then the loss must agree. (A second spike is no evidence either: of 291 published
healthy runs one had two within three points, and did not care.)"""

GRAD_ALONE = 100.0
"""A spike of the gradient norm that stands not so many times above its usual level needs a loss that is suspicious too. Every long training
has a batch now and then whose gradient is some ten times as large, and an adaptive optimizer or the next batches take it back; the loss
says so at once if they do not."""

EARLY_RUIN = 2
"""Points at the very start that stand ``loss_factor`` × above the first: nothing is usual yet, and this is no way to begin."""

WITNESSES_Z = 4.5
"""Training and validation loss must both stand so many standard deviations above their best."""


class Bars(NamedTuple):
    """Thresholds, from the rule's parameters."""

    z: float
    grad_factor: float
    loss_factor: float
    initial_factor: float
    suspicion_z: float
    least_factor: float
    high_factor: float
    shift_factor: float
    both_factor: float
    rate_factor: float
    arm_points: int
    early_points: int
    lowest_z: float
    """Nothing is said of a value whose z is not above this."""


class Sign(NamedTuple):
    """Something is wrong. ``acts``: it may lead to an action; else ``why_not``. ``factor``: × the usual level (where not finite: the
    value). ``since``: it began at or after that step; None: with the suspicion that is open. ``usual``, ``sigma``: where the loss stood
    before, log scale, and how much it moves by itself, where that is known otherwise than by ``Signs.loss``."""

    kind: Literal["nonfinite", "loss", "both", "grad"]
    signal: str
    value: float
    factor: float
    z: float | None
    acts: bool = True
    why_not: str = ""
    since: int | None = None
    usual: float | None = None
    sigma: float = 0.0


class Signs(Memory):
    """Loss and gradient norm on the present line of branches, point by point. Copied at snapshots, gone back to on a restore."""

    def __init__(self) -> None:
        self.loss = Robust()
        self.grain = Grain()
        self.grad = Robust()
        self.rate = Rate()
        self.held = 1.0  # what the guard itself has multiplied the rate's scale by
        self.seen: set[str] = set()
        self.initial: float | None = None
        self.far: deque[bool] = deque(maxlen=3)  # loss beyond the bar, of the last points
        self.high: deque[bool] = deque(maxlen=HIGH_OF)  # loss suspicious and high
        self.held_out = 0
        self.excursion = Excursion()
        self.level = Level()
        self.shifted = False  # the loss stands on a higher level than before
        self.witnesses = Witnesses()
        self.best_rate = BestRate()
        self.vals: deque[float] = deque(maxlen=5)  # the last validation losses before any trouble that is open
        self.val_bad = False  # the last validation loss was not finite, or has risen together with the loss
        self.ruined = 0  # points in a row, at the very start, that stood far above the first
        self.loss_odd = False
        self.grad_odd = False  # finite and far off
        self.not_positive = 0  # points for which the loss is still not judged, since one of it was zero or negative
        self.odd: bool | None = None  # the newest point; None: it held nothing to judge
        self.main = False  # it held the signal by which points are counted: the loss, where there is one
        self.clean = 0  # judged points in a row without suspicion
        self.points = 0  # judged points
        self.episode: int | None = None  # first step of the suspicion that is open
        self.healthy: int | None = None  # last step before it; where none is open, the last judged step
        self.loss_steps: deque[int] = deque(maxlen=9)
        self.grad_steps: deque[int] = deque(maxlen=9)

    def take(self, step: int, values: dict[str, float], bars: Bars, view: RunView, *, frozen: bool) -> Sign | None:
        """Judge one point and learn from it, unless ``frozen``: while trouble is open it is not what is usual."""
        self.odd = None
        loss, grad = values.get("loss"), values.get("grad_norm")
        by_loss = by_grad = None
        if loss is not None:
            by_loss = self._loss(step, loss, bars, frozen)
        elif "loss" not in self.seen:
            by_loss = self._other_losses(values)
        if grad is not None:
            by_grad = self._grad(step, grad, bars, view, frozen, beside=loss is not None)
        by_val = self._val(step, values["val_loss"], bars, view, frozen) if "val_loss" in values else None
        if by_val is not None:
            self.odd, by_loss = True, by_loss or by_val
        if self.odd is None:
            return None
        self.main = loss is not None or "loss" not in self.seen
        self._count(step)
        sign = by_loss
        if by_grad is not None and (sign is None or (by_grad.kind == "nonfinite" and sign.kind != "nonfinite")):
            sign = by_grad
        if sign is not None and sign.kind != "nonfinite" and view.kind in ("rl", "gan"):
            return sign._replace(acts=False, why_not=f'with kind="{view.kind}" only values that are not finite act')
        return sign

    # -- the loss --------------------------------------------------------------------------------------------------------

    def _loss(self, step: int, loss: float, bars: Bars, frozen: bool) -> Sign | None:
        if not math.isfinite(loss):
            if "loss" not in self.seen:
                return None  # it has not started
            self.odd = self.loss_odd = True
            self.far.append(True)
            return Sign("nonfinite", "loss", loss, loss, None)
        self.seen.add("loss")
        self.loss_steps.append(step)
        self.odd = self.loss_odd = False
        if loss <= 0.0:
            self.witnesses.rest()
            if loss < 0.0:  # exactly zero is a batch that is known by heart: it says nothing about the level
                self.not_positive = WINDOW
                self.loss.clear()
                self.excursion.clear()
                self.level.clear()
            return None
        if self.not_positive:
            self.not_positive -= 1
        initial = self.initial = loss if self.initial is None else self.initial
        x, usual = math.log(loss), self.loss
        self.grain.push(loss)
        self.witnesses.loss(x)
        sign, high, seen = None, False, len(usual)
        if seen < bars.early_points and loss > bars.loss_factor * initial:
            self.ruined, high = self.ruined + 1, True
            self.odd = self.loss_odd = True
            sign = Sign("loss", "loss", loss, loss / initial, None) if self.ruined >= EARLY_RUIN else None
        elif seen < bars.early_points or usual.is_usual(x, bars.lowest_z):
            if seen >= bars.arm_points:
                self.far.append(False)
                self.high.append(False)
        else:
            sign, high = self._stands_out(loss, x, initial, bars)
        left = self._left(step, loss, x, frozen)
        sign = sign or left
        if sign is None and self.level.push(step, x, frozen=frozen):
            sign = self._level(x, bars)
        self.held_out = self.held_out + 1 if high else 0
        if not frozen and not 0 < self.held_out <= HELD_OUT:
            usual.push(x)
        if sign is not None and loss <= bars.initial_factor * initial and self.rate.was_raised(bars.rate_factor):
            return sign._replace(acts=False, why_not="the schedule has just raised the rate to where it has been before")
        return None if self.not_positive else sign

    def _stands_out(self, loss: float, x: float, initial: float, bars: Bars) -> tuple[Sign | None, bool]:
        """A loss that may be more than usual: the sign, and whether it is suspiciously high."""
        usual, sign, high = self.loss, None, False
        z, above = usual.z(x), x - usual.centre
        if not self.grain.tells(loss, math.exp(usual.centre)):
            z = 0.0
        if len(usual) >= bars.arm_points:
            self.odd = self.loss_odd = z > bars.suspicion_z
            far = z > bars.z and above > math.log(bars.least_factor)
            self.far.append(far)
            high = self.odd and above > math.log(bars.high_factor)
            self.high.append(high)
            if (far and sum(self.far) >= 2) or (high and sum(self.high) >= HIGH_POINTS):
                sign = Sign("loss", "loss", loss, math.exp(min(700.0, above)), z)
        if z > bars.z and above > math.log(bars.loss_factor) and loss > bars.initial_factor * initial:
            self.odd = self.loss_odd = True
            sign = Sign("loss", "loss", loss, math.exp(min(700.0, above)), z)
        return sign, high

    def _left(self, step: int, loss: float, x: float, frozen: bool) -> Sign | None:
        """The loss has left the level of its last points."""
        away = self.excursion
        lasts = away.push(step, x, self.loss.high, frozen=frozen)
        if not away.odd or not self.grain.tells(loss, math.exp(away.usual)):
            return None
        self.odd = self.loss_odd = True
        return Sign("loss", "loss", loss, math.exp(min(700.0, away.rise)), away.z, usual=away.usual, sigma=away.sigma) if lasts else None

    def _level(self, x: float, bars: Bars) -> Sign | None:
        """It is time to look whether the loss has moved to a higher level."""
        shift = self.level.shift(bars.shift_factor)
        self.shifted = shift is not None and shift.z > bars.z and self.grain.tells(shift.now, shift.now / shift.factor)
        if shift is not None and self.shifted:
            return Sign("loss", "loss", math.exp(x), shift.factor, shift.z, since=shift.since)
        return None

    def _val(self, step: int, val: float, bars: Bars, view: RunView, frozen: bool) -> Sign | None:
        """The validation loss: finite, and whether it has risen from its best together with the training loss, at no higher rate."""
        if not math.isfinite(val):
            self.val_bad = "val_loss" in self.seen
            return Sign("nonfinite", "val_loss", val, val, None) if self.val_bad else None
        self.seen.add("val_loss")
        if not frozen and self.episode is None:
            self.vals.append(val)
        scale = view.scales.get("lr", 1.0)
        if self.best_rate.is_left(self.rate, scale):
            self.witnesses = Witnesses()
        both = self.witnesses
        both.val_loss(step, val)
        if both.well == step:
            self.best_rate.remember(self.rate, scale)
        self.val_bad = both.rise is not None and both.rise > math.log(bars.both_factor) and both.z > WITNESSES_Z and not both.apart
        if both.rise is None or not self.val_bad or self.not_positive:
            return None
        return Sign("both", "training and validation loss", val, math.exp(min(700.0, both.rise)), both.z, since=both.well)

    def _other_losses(self, values: dict[str, float]) -> Sign | None:
        """Where nothing is called ``loss`` (a GAN has two): the losses there are, only for whether they are finite."""
        for name, value in values.items():
            if not is_training_loss(name):
                continue
            if not math.isfinite(value):
                if name in self.seen:
                    self.odd = True
                    return Sign("nonfinite", name, value, value, None)
                continue
            self.seen.add(name)
            self.odd = bool(self.odd)
        return None

    # -- the gradient ----------------------------------------------------------------------------------------------------

    def _grad(self, step: int, grad: float, bars: Bars, view: RunView, frozen: bool, *, beside: bool) -> Sign | None:
        if not math.isfinite(grad):
            if "grad_norm" not in self.seen:
                return None
            self.odd, self.grad_odd = True, False
            return Sign("nonfinite", "grad_norm", grad, grad, None)
        self.seen.add("grad_norm")
        self.grad_steps.append(step)
        odd, sign, usual = False, None, self.grad
        if grad > 0.0:
            x = math.log(grad)
            if len(usual) >= bars.arm_points:
                spike = False
                if not usual.is_usual(x, bars.lowest_z):
                    z, factor = usual.z(x), math.exp(min(700.0, x - usual.centre))
                    odd = z > bars.suspicion_z and factor > GRAD_ODD
                    spike = z > bars.z and factor > bars.grad_factor
                if spike:
                    sign = self._spike(Sign("grad", "grad_norm", grad, factor, z), view)
            if not frozen:
                usual.push(x)
        self.grad_odd = odd
        if odd or beside or "loss" not in self.seen:
            self.odd = bool(self.odd) or odd
        return sign

    def _spike(self, sign: Sign, view: RunView) -> Sign:
        """Whether a spike of the gradient is enough by itself."""
        every = gap(self.grad_steps)
        if len(self.grad_steps) > 1:
            every = max(every, self.grad_steps[-1] - self.grad_steps[-2])
        if every > DENSE_GAP and not (self.far and self.far[-1]):
            return sign._replace(acts=False, why_not=f"grad_norm is logged every {every} steps: a spike alone says little")
        if sign.factor < GRAD_ALONE and not self.loss_odd and "loss" in self.seen:
            return sign._replace(acts=False, why_not="the loss is as usual")
        if view.clips and not self.loss_odd:
            return sign._replace(acts=False, why_not="gradients are clipped: a spike alone does no harm")
        return sign

    # -- what is healthy -------------------------------------------------------------------------------------------------

    def _count(self, step: int) -> None:
        self.points += 1
        if self.odd:
            self.clean = 0
            if self.episode is None:
                self.episode = step
            return
        if self.main:
            self.clean += 1
        if self.episode is None:
            self.healthy = step
        elif self.clean >= CLEAN_POINTS:
            self.episode, self.healthy = None, step

    def anew(self) -> None:
        """What has been odd for a whole window is the new usual: learn it from here."""
        self.loss.clear()
        self.grad.clear()
        self.excursion.clear()
        self.level.clear()
        self.far.clear()
        self.high.clear()
        self.witnesses, self.val_bad = Witnesses(), False


def gap(steps: "deque[int]") -> int:
    """The usual distance of logged steps; 0 where it is not known yet."""
    if len(steps) < 2:
        return 0
    ordered = list(steps)
    return int(median(sorted(float(b - a) for a, b in pairwise(ordered))))


def describe(sign: Sign) -> str:
    """``loss 11 × its usual level``; ``loss is nan``."""
    if sign.kind == "nonfinite":
        return f"{sign.signal} is {sign.value}"
    digits = f"{sign.factor:,.0f}" if sign.factor >= 10 else f"{sign.factor:.2g}"
    if sign.kind == "both":
        return f"{sign.signal} {digits} × the best they have been"
    return f"{sign.signal} {digits} × its usual level" + ("" if sign.since is None else f" for {NEW_POINTS} points")


def is_training_loss(name: str) -> bool:
    """``g_loss``, ``loss_d``; not ``val_loss``, ``loss_scale``, nor what is told of a layer that is called so (``grad_norm.arc_loss``)."""
    if name.startswith(("val", "eval", "test")) or of_layer(name):
        return False
    return name.endswith("loss") or (name.startswith("loss") and not name[4:].lstrip("_./-").startswith("scal"))
