"""A run that never was: a small language model two thirds through, with a NaN burst behind it and a spike just now."""

import math

from sitter.model import Curve, Marker

TOTAL, PER_EPOCH, PEAK_LR = 20_000, 2_500, 6e-4
NAN_AT, NAN_BACK_TO, CUT_AT, SPIKE_AT = 6_210, 6_180, 9_000, 11_868
LOW, HIGH = 1e-6, 1e-2
"""Bounds of the rate."""

SIGNALS = ("loss", "val_loss", "lr", "grad_norm", "step_time", "data_wait", "tokens_per_s", "gpu0.util", "gpu0.temp", "train/acc")


def noise(k: int, salt: int = 0) -> float:
    """In -1…1, the same for the same ``k``."""
    x = math.sin(k * 12.9898 + salt * 78.233) * 43758.5453
    return 2 * (x - math.floor(x)) - 1


def scheduled_lr(step: float) -> float:
    """Warm-up over 500 steps, then a cosine down to a tenth."""
    if step < 500:
        return PEAK_LR * max(step, 1) / 500
    return PEAK_LR * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - 500) / (TOTAL - 500))))


def level(name: str, step: float, lr_scale: float = 1.0) -> float:
    """What a signal would be without noise."""
    s = max(step, 0.0)
    if name == "loss":
        return 1.28 + 2.6 * math.exp(-s / 300) + 1.7 / math.sqrt(1 + s / 250) - (0.03 if s > CUT_AT else 0)
    if name == "val_loss":
        return level("loss", s) + 0.05 + 0.04 * s / TOTAL
    if name == "lr":
        return scheduled_lr(s) * lr_scale
    if name == "grad_norm":
        return 0.35 + 1.4 * math.exp(-s / 500)
    if name == "step_time":
        return 0.41
    if name == "data_wait":
        return 0.03
    if name == "tokens_per_s":
        return 39_800.0
    if name == "gpu0.util":
        return 86.0
    if name == "gpu0.temp":
        return 56 + 3 * math.sin(s / 900)
    return 0.62 - 0.4 * math.exp(-s / 2500)


_SPREAD = {"loss": 0.075, "val_loss": 0.006, "lr": 0.0, "grad_norm": 0.12, "step_time": 0.02, "data_wait": 0.012,
           "tokens_per_s": 900.0, "gpu0.util": 6.0, "gpu0.temp": 0.6, "train/acc": 0.015}  # fmt: skip


def value(name: str, step: int, lr_scale: float = 1.0) -> float:
    """What was logged at a step; the two troubles included."""
    if name in ("loss", "grad_norm") and SPIKE_AT <= step < SPIKE_AT + 2:
        return level(name, step) * 11
    salt = len(name)
    return level(name, step, lr_scale) + _SPREAD.get(name, 0.01) * noise(step, salt) * (1 + 0.6 * noise(step // 7, salt))


def curve(name: str, first: float, last: float, columns: int, per_x: float, lr_scale: "LrScale", *, abandoned: bool = False) -> Curve:
    """The signal over steps ``first``…``last`` in columns; ``per_x`` turns steps into the axis."""
    x: list[float] = []
    low: list[float] = []
    high: list[float] = []
    mean: list[float] = []
    lost: list[float] = []
    columns = max(1, min(columns, int(last - first) + 1))
    width = (last - first + 1) / columns
    spread = _SPREAD.get(name, 0.01)
    for i in range(columns):
        a, b = int(first + i * width), max(int(first + (i + 1) * width) - 1, int(first + i * width))
        middle = (a + b) / 2
        if name == "val_loss" and (a // 250 == b // 250 and a % 250):
            x.append(middle * per_x)
            for column in (low, high, mean):
                column.append(math.nan)
            continue
        n = b - a + 1
        scale = lr_scale.at(middle)
        center = level(name, middle, scale) + spread * noise(a, len(name)) / math.sqrt(n)
        reach = spread * min(1.6, 0.4 + 0.25 * math.log1p(n)) if n > 1 else 0.0
        bottom, top = center - reach * (1 + 0.3 * noise(a, 5)), center + reach * (1 + 0.5 * noise(a, 7))
        if name in ("loss", "grad_norm") and a <= SPIKE_AT <= b:
            top = level(name, SPIKE_AT) * 11
            center += (top - center) * 2 / max(n, 2)
        if abandoned and name == "loss" and a <= NAN_AT <= b:
            lost.append(middle * per_x)
        x.append(middle * per_x)
        low.append(bottom)
        high.append(top)
        mean.append(center)
    return Curve(signal=name, x=x, low=low, high=high, mean=mean, lost=lost, abandoned=abandoned)


class LrScale:
    """How the rate's scale went over the steps: (from step, scale)."""

    def __init__(self) -> None:
        self.changes: list[tuple[int, float]] = [(0, 1.0), (CUT_AT, 0.5)]

    def at(self, step: float) -> float:
        """The scale at a step."""
        return next(scale for since, scale in reversed(self.changes) if since <= step)

    def set(self, step: int, scale: float) -> None:
        """From ``step`` on."""
        self.changes = [c for c in self.changes if c[0] < step] or [(0, 1.0)]
        self.changes.append((step, scale))


def past_markers() -> list[Marker]:
    """What happened before the story begins, on the step axis."""
    return [
        *(Marker(x=s, kind="checkpoint", text=f"checkpoint {s:,}") for s in range(1_800, 12_000, 2_000)),
        Marker(x=NAN_AT, kind="incident", text="loss is nan"), Marker(x=NAN_BACK_TO, kind="restore", text="back to 6,180"),
        Marker(x=CUT_AT, kind="knob", text="lr × 0.5"), Marker(x=SPIKE_AT, kind="incident", text="spike, gone after 2 steps"),
    ]  # fmt: skip
