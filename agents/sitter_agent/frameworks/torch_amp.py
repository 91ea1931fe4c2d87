"""The loss scale of a ``GradScaler``, told when it may have changed, and never waited for."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

EVERY = 10
"""Turns between two looks."""


def scalers() -> type:
    """Of which kind gradient scalers are; the one in ``torch.amp`` came with torch 2.3."""
    kind: type = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
    return kind


class LossScale:
    """Of the scaler that was given to ``start``, or else of the only one that is in use in this process."""

    def __init__(self, scaler: Any = None) -> None:
        self._scaler = scaler
        self.known = _enabled(scaler)
        self._turns = 0
        self._told: tuple[int, int] | None = None
        """Which tensor it was, and how often it had been written, when it was told last."""

    def take(self) -> float | Tensor | None:
        """To be called once a turn; a 0-d tensor where the scale lies on a device."""
        self._turns -= 1
        if self._turns > 0:
            return None
        scale = getattr(self._scaler, "_scale", None)
        if not isinstance(scale, Tensor) or scale.numel() != 1:  # made at the first loss that is scaled
            return None
        self._turns = EVERY
        written = id(scale), scale._version
        if written == self._told:
            return None
        self._told = written
        return float(scale) if scale.device.type == "cpu" else scale.detach()

    def look_for(self, things: Iterable[Any]) -> list[str]:
        """Take the scaler among them where none was given, and say that it is not in snapshots."""
        found = [thing for thing in things if isinstance(thing, scalers()) and _enabled(thing)]
        if self._scaler is not None or len(found) != 1:  # of several it cannot be told which is this training's
            return []
        self._scaler, self.known = found[0], True
        return ["a GradScaler is in use that was not given to start(scaler=…): its loss scale is shown, and would not be rolled back"]

    def close(self) -> None:
        """Let go of the scaler."""
        self._scaler, self.known = None, False


def _enabled(scaler: Any) -> bool:
    enabled = getattr(scaler, "is_enabled", None)
    return bool(enabled()) if callable(enabled) else False
