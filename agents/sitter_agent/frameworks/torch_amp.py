"""The loss scale of a ``GradScaler``, told when it may have changed, and never waited for."""

import gc
from typing import Any

import torch
from torch import Tensor

EVERY = 10
"""Turns between two looks."""


class LossScale:
    """Of the scaler that was given to ``start``, or else of the only one that is in use in this process."""

    def __init__(self, scaler: Any = None) -> None:
        self.found = None if scaler is not None else _only_one()
        """The scaler that nobody gave us: it is not in snapshots."""
        self._scaler = scaler if scaler is not None else self.found
        self.known = _enabled(self._scaler)
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

    def remarks(self) -> list[str]:
        """Whether it is one that nobody gave us."""
        if self.found is None:
            return []
        return ["a GradScaler is in use that was not given to start(scaler=…): its loss scale is shown, and would not be rolled back"]

    def close(self) -> None:
        """Let go of the scaler."""
        self._scaler = self.found = None
        self.known = False


def _enabled(scaler: Any) -> bool:
    enabled = getattr(scaler, "is_enabled", None)
    return bool(enabled()) if callable(enabled) else False


def _only_one() -> Any:
    """None where there are several: which of them is this training's cannot be told."""
    kind = torch.amp.GradScaler
    living = [thing for thing in gc.get_objects() if issubclass(type(thing), kind) and _enabled(thing)]
    return living[0] if len(living) == 1 else None
