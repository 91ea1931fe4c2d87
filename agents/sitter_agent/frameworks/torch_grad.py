"""Norms of many tensors at once: the gradient norm of a step, and whether everything is finite."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from sitter_agent.stopwatch import Stopwatch, waited

COST_SHARE = 0.005
"""Of the step time, at most, for the gradient norm…"""
EVERY_AT_MOST = 100
"""…but at least every so many steps, whatever it costs: the guard is blind in between."""
DEVICE_BANDWIDTH = 5e11
"""Bytes/s at which a GPU is taken to read gradients when its cost is estimated (launching is measured, the kernels are not waited
for). Low for anything bought in the last years, so the estimate errs towards sampling less often."""


def dense(t: Tensor) -> Tensor | None:
    """The floating-point values of ``t`` as a dense real tensor; None where there is nothing to measure."""
    values = t.detach()
    if values.layout is torch.sparse_coo:
        values = values._values()
    if values.layout is not torch.strided or type(values) is not Tensor or values.device.type == "meta":
        return None
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if not values.is_floating_point() or values.numel() == 0:
        return None
    return values if values.element_size() > 1 else values.float()


def norms(tensors: Iterable[Tensor]) -> dict[torch.device, tuple[list[Tensor], Tensor]]:
    """L2 norm of each tensor, by device: the tensors measured and a vector of their norms, float32 (float64 for float64).

    Summed in float32 also for half types, whose squares overflow at 256.
    """
    groups: dict[tuple[torch.device, bool], list[Tensor]] = {}
    for t in tensors:
        values = dense(t)
        if values is not None:
            groups.setdefault((values.device, values.dtype is torch.float64), []).append(values)
    found: dict[torch.device, tuple[list[Tensor], Tensor]] = {}
    with torch.no_grad():
        for (device, double), group in groups.items():
            each = torch.stack(list(torch._foreach_norm(group, 2, dtype=torch.float64 if double else torch.float32)))
            if device in found:
                before, vector = found[device]
                found[device] = (before + group, torch.cat([vector.double(), each.double()]))
            else:
                found[device] = (group, each)
    return found


def total_norm(tensors: Iterable[Tensor]) -> Tensor | None:
    """The L2 norm over all of them, as a 0-d tensor on the device of most of them; never synchronises on one device."""
    by_device = norms(tensors)
    if not by_device:
        return None
    with torch.no_grad():
        parts = [torch.linalg.vector_norm(vector) for _, vector in by_device.values()]
        if len(parts) == 1:
            return parts[0]
        return torch.linalg.vector_norm(torch.stack([p.to(parts[0].device, torch.float64) for p in parts]))


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every value is finite; one synchronisation per device where all is well.

    The norms say so for a tenth of what ``isfinite`` costs; one that overflowed or is NaN is looked at again, exactly.
    """
    for group, vector in norms(tensors).values():
        finite = torch.isfinite(vector)
        if bool(finite.all()):
            continue
        doubtful = [i for i, ok in enumerate(finite.tolist()) if not ok]
        if not all(bool(torch.isfinite(group[i]).all()) for i in doubtful):
            return False
    return True


class GradNormMeter:
    """Takes the gradient norm in the optimizer's post-hook, where gradients are unscaled and clipped as they were used.

    Its interval adapts between 1 and 100 steps so that its cost stays within half a percent of the step time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.enabled = True
        self.interval = 1
        self._clock = clock
        self._waited = waited if clock is time.monotonic else lambda: 0.0
        self._due = 0
        self._steps = 1
        """From the last norm to the next."""
        self._last_end: tuple[float, float] | None = None
        """When the last one was taken, and how long this thread had waited for a core by then."""
        self._step_time: float | None = None
        self._cost: float | None = None
        self.taken: Tensor | None = None
        """The norm of the step just done."""
        self._warm = 0
        self._simple = True
        """Whether the gradients have been of the usual kind so far: dense, real, on one device."""

    def after_step(self, optimizer: Any) -> None:
        """To be called once per optimizer step, before gradients are cleared."""
        self._due -= 1
        if self._due > 0 or not self.enabled:
            return
        watch = Stopwatch(self._clock)
        if self._last_end is not None:
            # Without the time in which others had our core: it is not in the cost either. On a machine with ten programs to a core the
            # norm was else taken at every third step and cost 2.5 %, since a step seemed seven times as long as it was.
            began, before = self._last_end
            self._step_time = _blend(self._step_time, max(0.0, self._clock() - began - (self._waited() - before)) / self._steps)
        grads = [g for group in optimizer.param_groups for p in group["params"] if (g := p.grad) is not None]
        if grads and not capturing(grads[0]):
            self.taken = self._norm(grads)
            self._adapt(watch, grads)
        self._due = self._steps = self.interval
        self._last_end = self._clock(), self._waited()

    def _norm(self, grads: list[Tensor]) -> Tensor | None:
        if self._simple:
            try:
                if all(type(g) is Tensor for g in grads):
                    with torch.no_grad():
                        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2, dtype=torch.float32)))
            except (RuntimeError, TypeError):  # sparse, of 8 bits, of 64, on several devices…
                pass
            self._simple = False
        return total_norm(grads)

    def take(self) -> float | Tensor | None:
        """The norm of the step just done, once; a 0-d tensor where it lies on a device, None where it was not taken."""
        taken, self.taken = self.taken, None
        if taken is None:
            return None
        return float(taken) if taken.device.type == "cpu" else taken

    def drop(self) -> None:
        """Forget a norm that was taken: it belongs to a state that is gone."""
        self.taken = None

    def _adapt(self, watch: Stopwatch, grads: list[Tensor]) -> None:
        self._warm += 1
        if self._warm <= 2:  # the first calls load kernels
            return
        seconds = watch.seconds()
        if grads[0].device.type != "cpu":
            seconds = max(seconds, sum(g.numel() * g.element_size() for g in grads) / DEVICE_BANDWIDTH)
        self._cost = _blend(self._cost, seconds)
        if self._step_time:
            self.interval = min(EVERY_AT_MOST, max(1, math.ceil(self._cost / (COST_SHARE * self._step_time))))


def _blend(old: float | None, new: float) -> float:
    """Running mean over about 10 values that one long pause (an evaluation) cannot carry away: at most 3 × at a time."""
    return new if old is None else old + 0.1 * (min(new, 3 * old) - old)


def capturing(t: Tensor) -> bool:
    """Whether a CUDA graph is being captured: then nothing of ours may be launched."""
    return bool(t.is_cuda and torch.cuda.is_current_stream_capturing())
