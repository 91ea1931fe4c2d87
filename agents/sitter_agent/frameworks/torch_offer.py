"""Which knobs an optimizer offers, with which bounds, and where their effect is partial or none."""

import math
from typing import Any, Literal

from torch import Tensor

from sitter_agent.frameworks.torch_knobs import TorchKnob, number, peak_lr
from sitter_agent.frameworks.torch_scale import Field, StepHooks
from sitter_wire.events import KnobSpec

LR_DOWN, LR_UP = 1e-4, 100.0
"""Bounds of the rate, as factors on the largest rate that the user's own schedule is known to reach. They catch slips of the finger
(3 for 3e-4 is four decades up) and do not say which rate is good; a search for one spans about 6 decades."""
DECOUPLED_DECAY = (1e-3, 0.3)
L2_DECAY = (1e-8, 1e-2)
MOMENTUM = (0.5, 0.9999)
BETA2 = (0.5, 0.99999)
_DECOUPLED_BY_NAME = ("adamw", "lion", "muon", "adafactor", "lamb", "sophia")

Scale = Literal["log", "log1m"]


def offer(hooks: list[StepHooks]) -> list[TorchKnob]:
    """The knobs of these optimizers together; one knob moves all of their groups."""
    found = [_lr(hooks), _weight_decay(hooks), _momentum(hooks), _beta2(hooks)]
    return [knob for knob in found if knob is not None]


def lr_note(optimizer: Any) -> str:
    """Where the rate does not act as one would think; empty where it does."""
    kind = type(optimizer).__name__
    group = optimizer.param_groups[0] if optimizer.param_groups else {}
    if kind == "Rprop":
        return "no effect: Rprop steps by the signs of gradients and reads lr only before its first step"
    if kind == "ASGD":
        return "partial: ASGD computes its rate one step ahead, so a change acts one step late"
    if kind == "LBFGS":
        return (
            "partial: the line search starts from it and chooses by itself"
            if group.get("line_search_fn")
            else "partial: scales the quasi-Newton step, whose length the history sets"
        )
    if kind == "Adafactor" and "beta2_decay" in group:
        return "partial: Adafactor takes min(lr, 1/√step), so lr is only a cap"
    if "d" in group and "d0" in group:
        return "partial: multiplies the rate that the optimizer estimates by itself"
    if "weight_sum" in group and "lr_max" in group:
        return "partial: schedule-free averages weigh each step by its rate"
    return ""


def _lr(hooks: list[StepHooks]) -> TorchKnob | None:
    field = Field("lr", "lr")
    hooks = [h for h in hooks if not any(g.get("relative_step") for g in h.optimizer.param_groups)]
    peaks = [peak_lr(g, number(field.read(g))) for g in _groups(hooks, field)]
    if not peaks:
        return None
    peaks = [p for p in peaks if p > 0] or [1e-3]
    notes = {type(h.optimizer).__name__: lr_note(h.optimizer) for h in hooks}
    notes = {kind: note for kind, note in notes.items() if note}
    refusal = ""
    if all(type(h.optimizer).__name__ == "Rprop" for h in hooks):
        refusal = f"lr has {notes['Rprop']}; change the optimizer in the script instead"
    spec = _spec(field, hooks, min(peaks) * LR_DOWN, max(peaks) * LR_UP, "log", "; ".join(notes.values()))
    caps = [h for h in hooks if type(h.optimizer).__name__ == "Adafactor" and "beta2_decay" in h.optimizer.param_groups[0]]
    return TorchKnob(field, hooks, spec, refusal=refusal, cap=(lambda: _adafactor_cap(caps[0])) if caps else None)


def _weight_decay(hooks: list[StepHooks]) -> TorchKnob | None:
    field = Field("weight_decay", "weight_decay")
    low, high, values = math.inf, 0.0, []
    for h in hooks:
        for g in h.optimizer.param_groups:
            value = number(field.read(g))
            if value:
                bounds = DECOUPLED_DECAY if _is_decoupled(h.optimizer, g) else L2_DECAY
                low, high = min(low, bounds[0]), max(high, bounds[1])
                values.append(value)
    if not values:
        return None
    return TorchKnob(field, hooks, _spec(field, hooks, min(low, *values), max(high, *values), "log"))


def _momentum(hooks: list[StepHooks]) -> TorchKnob | None:
    plain = Field("momentum", "momentum", inverse=True)
    betas = Field("momentum", "betas", 0, inverse=True)
    return _inverse([plain, betas], hooks, MOMENTUM)


def _beta2(hooks: list[StepHooks]) -> TorchKnob | None:
    return _inverse([Field("beta2", "betas", 1, inverse=True)], hooks, BETA2)


def _inverse(fields: list[Field], hooks: list[StepHooks], bounds: tuple[float, float]) -> TorchKnob | None:
    """The first of ``fields`` that the optimizers have; only plain numbers, since a tensor in ``betas`` is compiled in."""
    for field in fields:
        mine = [h for h in hooks if any(_plain(field.read(g)) for g in h.optimizer.param_groups)]
        values = [_plain(field.read(g)) for g in _groups(mine, field)]
        values = [v for v in values if v]
        if values:
            low, high = min(bounds[0], *values), max(bounds[1], *values)
            return TorchKnob(field, mine, _spec(field, mine, low, high, "log1m"))
    return None


def _plain(value: float | Tensor | None) -> float:
    """A plain number as it is; 0 for a tensor or nothing."""
    return 0.0 if value is None or isinstance(value, Tensor) else value


def _groups(hooks: list[StepHooks], field: Field) -> list[dict[str, Any]]:
    return [g for h in hooks for g in h.optimizer.param_groups if field.read(g) is not None]


def _spec(field: Field, hooks: list[StepHooks], low: float, high: float, scale: Scale, note: str = "") -> KnobSpec:
    labels = [h.label(i) for h in hooks for i, g in enumerate(h.optimizer.param_groups) if field.read(g) is not None]
    return KnobSpec(name=field.name, low=low, high=high, scale=scale, groups=list(dict.fromkeys(labels)), note=note)


def _is_decoupled(optimizer: Any, group: dict[str, Any]) -> bool:
    """Whether decay is applied to the weights (× lr), not added to the gradient: the two live decades apart."""
    for key in ("decoupled_weight_decay", "decouple"):
        if isinstance(group.get(key), bool):
            return bool(group[key])
    name = type(optimizer).__name__.lower()
    return any(part in name for part in _DECOUPLED_BY_NAME)


def _adafactor_cap(h: StepHooks) -> float | None:
    """1/√step of torch's Adafactor, of its first parameter with state."""
    for g in h.optimizer.param_groups:
        for p in g["params"]:
            step = number(h.optimizer.state.get(p, {}).get("step"))
            if step:
                return 1 / math.sqrt(step)
    return None
