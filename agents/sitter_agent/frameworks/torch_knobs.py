"""A knob over one number of every param group: lr, weight_decay, momentum, beta2."""

import math
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from sitter_agent.frameworks.torch_scale import Field, Setting, StepHooks
from sitter_wire.events import KnobSpec

Target = tuple[StepHooks, int, str]
"""One param group: its optimizer's hooks, its index there, its label."""


class TorchKnob:
    """One field of every param group of every optimizer. Implements ``sitter_agent.state.Knob``.

    ``scale`` is on the value itself, for momentum and betas on 1 - value; it and ``held`` speak of the first group.
    """

    def __init__(
        self, field: Field, hooks: list[StepHooks], spec: KnobSpec, *, refusal: str = "", cap: Callable[[], float | None] | None = None
    ) -> None:
        """``refusal``: why no change has an effect here. ``cap``: the value above which none has one now (None: no such value)."""
        self.field, self.spec = field, spec
        self._refusal, self._cap = refusal, cap
        self._hooks = hooks
        self._setting = Setting()
        self._start = {label: number(field.read(h.optimizer.param_groups[i])) for h, i, label in self._targets(hooks)}
        for h in hooks:
            h.settings.append((field, self._setting))

    def scheduled(self) -> float:
        """What the user's code or schedule asks for now (first group that has it); NaN where none has it any more."""
        first = self._first()
        return math.nan if first is None else self._scheduled(first)

    def effective(self) -> float:
        """What the next step will use (first group)."""
        first = self._first()
        return math.nan if first is None else self._setting.effective(self.field, first[2], self._scheduled(first))

    @property
    def waits(self) -> bool:
        """Whether the value lies on a device."""
        first = self._first()
        value = self.field.read(first[0].optimizer.param_groups[first[1]]) if first is not None else None
        return isinstance(value, Tensor) and value.device.type != "cpu"

    @property
    def scale(self) -> float:
        """Of the first group."""
        first = self._first()
        return self._setting.scale if first is None else self._setting.scale_of(first[2])

    @scale.setter
    def scale(self, value: float) -> None:
        self._setting.scale, self._setting.by_group = value, {}
        self._refresh()

    @property
    def held(self) -> bool:
        """Whether any group is pinned."""
        return bool(self._setting.held)

    @held.setter
    def held(self, value: bool) -> None:
        self._setting.held = {t[2]: self._effective(t) for t in self._targets(self._hooks)} if value else {}
        self._refresh()

    def settings(self) -> dict[str, Any]:
        """All that ``change`` has done, as plain values: for a checkpoint."""
        s = self._setting
        return {"scale": s.scale, "by_group": dict(s.by_group), "held": dict(s.held)}

    def put(self, settings: dict[str, Any]) -> None:
        """Take ``settings()`` of earlier, unchecked."""
        s = self._setting
        s.scale = float(settings["scale"])
        s.by_group = {str(k): float(v) for k, v in settings["by_group"].items()}
        s.held = {str(k): float(v) for k, v in settings["held"].items()}
        self._refresh()

    def change(
        self, op: Literal["scale", "value"], amount: float, *, group: str | None, hold: bool
    ) -> tuple[float, float]:
        """Scale by ``amount``, or make it ``amount``: pinned with ``hold``, else relative to what the schedule asks for now.

        A pinned value that is scaled stays pinned; an absolute value without ``hold`` ends the pin. Returns the effective value
        of the first group concerned before and after. Raises ValueError, having changed nothing.
        """
        name = self.field.name
        if self._refusal:
            raise ValueError(self._refusal)
        if any(h.in_graph for h in self._hooks):
            raise ValueError(
                f"{name} cannot be changed: the optimizer's step is replayed from a CUDA graph; call it outside of the graph instead"
            )
        if not math.isfinite(amount) or (amount <= 0 and (op == "scale" or self.spec.scale in ("log", "log1m"))):
            raise ValueError(f"{name}: expected a positive finite {op}, got {amount:g}; say for example {name}=0.5x")
        targets = self._chosen(group)
        if op == "value" and group is None:
            self._must_agree(targets)
        planned = self._planned(op, amount, targets, hold)
        for target, (scale, held) in zip(targets, planned, strict=True):
            self._check(target, op, scale, held)
        old = self._effective(targets[0])
        scale, held = planned[0]
        new = self.field.combine(self._scheduled(targets[0]), scale) if held is None else held
        cap = self._cap() if self._cap is not None else None
        if cap is not None and min(old, new) >= cap:
            raise ValueError(
                f"{name} {old:.3g} → {new:.3g} would change nothing: this optimizer uses at most {cap:.3g} at this step; go below it"
            )
        self._commit(targets, planned, everything=group is None)
        return old, new

    # -- choosing ----------------------------------------------------------------------------------------------------

    def _targets(self, hooks: list[StepHooks]) -> list[Target]:
        return [
            (h, i, h.label(i))
            for h in hooks
            for i, g in enumerate(h.optimizer.param_groups)
            if self.field.read(g) is not None
        ]

    def _first(self) -> Target | None:
        for h in self._hooks:
            for i, g in enumerate(h.optimizer.param_groups):
                if self.field.read(g) is not None:
                    return h, i, h.label(i)
        return None

    def _chosen(self, group: str | None) -> list[Target]:
        """The groups meant. Those where the value is 0 are left out if others are not: no decay on biases, a frozen group."""
        every = self._targets(self._hooks)
        targets = [t for t in every if group is None or t[2] == group or t[2].startswith(f"{group}/")]
        if not targets:
            names = ", ".join(dict.fromkeys(t[2] for t in every))
            raise ValueError(f"{self.field.name}: no param group is named {group!r}; there are {names}")
        moving = [t for t in targets if self._scheduled(t) != 0 or t[2] in self._setting.held]
        if not moving and self.field.name != "lr":
            raise ValueError(f"{self.field.name} is 0 here, and turning it on would be another algorithm; set it in the script")
        return moving or targets

    def _must_agree(self, targets: list[Target]) -> None:
        values = {t[2]: self._effective(t) for t in targets}
        first = next(iter(values.values()))
        if any(not math.isclose(v, first, rel_tol=1e-6) for v in values.values()):
            said = ", ".join(f"{label} {value:.3g}" for label, value in values.items())
            raise ValueError(
                f"{self.field.name}: the groups differ ({said}), so one value for all would change their ratio; name a group, "
                f"or scale them together ({self.field.name}=0.5x)"
            )

    # -- computing ---------------------------------------------------------------------------------------------------

    def _scheduled(self, target: Target) -> float:
        value = number(self.field.read(target[0].optimizer.param_groups[target[1]]))
        return math.nan if value is None else value

    def _effective(self, target: Target) -> float:
        return self._setting.effective(self.field, target[2], self._scheduled(target))

    def _planned(
        self, op: str, amount: float, targets: list[Target], hold: bool
    ) -> list[tuple[float, float | None]]:
        """Per target the new total scale and the new pinned value."""
        planned: list[tuple[float, float | None]] = []
        for target in targets:
            now, held = self._setting.scale_of(target[2]), self._setting.held.get(target[2])
            if op == "scale":
                if held is not None or hold:
                    pinned = self._effective(target) if held is None else held
                    planned.append((now, self.field.combine(pinned, amount)))
                else:
                    planned.append((_near_one(now * amount), None))
            elif hold:
                planned.append((now, amount))
            else:
                scale = self.field.ratio(amount, self._scheduled(target))
                if scale is None or not math.isfinite(scale):
                    raise ValueError(
                        f"{self.field.name}: the schedule asks for {self._scheduled(target):g} now, and no scale leads from there to "
                        f"{amount:g}; wait until it has left it, or hold the value"
                    )
                planned.append((_near_one(scale), None))
        return planned

    def _check(self, target: Target, op: str, scale: float, held: float | None) -> None:
        """Raises ValueError where the value would be out of bounds, now or when the schedule is at its largest."""
        low, high, name = self.spec.low, self.spec.high, self.field.name
        if held is not None:
            self._within(held, low, high, name)
            return
        now = self.field.combine(self._scheduled(target), scale)
        if op == "value":
            self._within(now, low, high, name)
        peak = self._peak(target)
        at_peak = self.field.combine(peak, scale)
        if name != "lr":
            self._within(at_peak, low, high, name)
        elif not low * (1 - 1e-9) <= at_peak <= high * (1 + 1e-9) or now > high * (1 + 1e-9):
            raise ValueError(
                f"lr × {scale:.3g} would be {at_peak:.3g} where the schedule is at its {peak:.3g}: expected {low:.3g} to {high:.3g}; "
                "choose a smaller change, or hold the value"
            )

    @staticmethod
    def _within(value: float, low: float, high: float, name: str) -> None:
        slack = 1e-9
        if not low - abs(low) * slack <= value <= high + abs(high) * slack:
            raise ValueError(f"{name} would be {value:.6g}: expected {low:.6g} to {high:.6g}; choose a value in between")

    def _peak(self, target: Target) -> float:
        """The largest value that the user's own schedule is known to ask of this group."""
        if self.field.name != "lr":
            return self._scheduled(target)
        return peak_lr(target[0].optimizer.param_groups[target[1]], self._start.get(target[2]))

    def _commit(self, targets: list[Target], planned: list[tuple[float, float | None]], *, everything: bool) -> None:
        s = self._setting
        if everything:
            # what holds for all shall hold for a group that is added later too
            common = planned[0][0]
            mine = {t[2] for t in targets}
            s.by_group = {label: f for label, f in s.by_group.items() if label not in mine}
            s.scale = common or 1.0
        for (_, _, label), (scale, held) in zip(targets, planned, strict=True):
            factor = _near_one(scale / s.scale)
            s.by_group[label] = factor
            if factor == 1.0:
                del s.by_group[label]
            if held is None:
                s.held.pop(label, None)
            else:
                s.held[label] = held
        self._refresh()

    def _refresh(self) -> None:
        for h in self._hooks:
            h.refresh()


def peak_lr(group: dict[str, Any], *also: float | None) -> float:
    """The largest rate this group is known to have: what schedulers wrote down at their start, and ``also``."""
    known = [number(group.get(key)) for key in ("initial_lr", "max_lr")] + list(also)
    return max((v for v in known if v is not None and math.isfinite(v)), default=0.0)


def number(value: Any) -> float | None:
    """As a float; a tensor is read, which waits for its device: only at start and when a command asks."""
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, (int, float)) else None


def _near_one(scale: float) -> float:
    """Exactly 1 where only rounding keeps it from it, so that ×0.3 and ×1/0.3 leave nothing behind."""
    return 1.0 if math.isclose(scale, 1.0, rel_tol=1e-12) else scale
