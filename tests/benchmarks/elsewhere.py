"""Five rules of other tools, rebuilt from their described thresholds, to be run beside ours (``judgement.py``).

Each is told one logged point after the other, ``{"loss": …, "grad_norm": …}`` with what that point holds, and answers whether it
raises an alarm there. All say when a value is not finite, as their hosts do one way or another.
"""

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping

Watcher = Callable[[Mapping[str, float]], bool]
"""One logged point in, alarm or not out."""


def olmo_core() -> Watcher:
    """Loss or gradient norm more than 6 standard deviations off the mean of the last 128 points, once 64 are there. The step would be
    skipped; what was seen counts in the window all the same."""
    windows: dict[str, deque[float]] = {name: deque(maxlen=128) for name in ("loss", "grad_norm")}

    def watch(values: Mapping[str, float]) -> bool:
        odd = False
        for name, window in windows.items():
            value = values.get(name)
            if value is None or not math.isfinite(value):
                continue
            if len(window) >= max(20, 64):
                mean = math.fsum(window) / len(window)
                deviation = math.sqrt(math.fsum([(v - mean) * (v - mean) for v in window]) / (len(window) - 1))
                odd = odd or abs(value - mean) > 6.0 * deviation
            window.append(value)
        return odd

    return watch


def lightning() -> Watcher:
    """SpikeDetection: the loss does not improve, and stands off the mean of the last 10 by twice that mean or more."""
    window: deque[float] = deque(maxlen=10)
    last = math.inf

    def watch(values: Mapping[str, float]) -> bool:
        nonlocal last
        loss = values.get("loss")
        if loss is None or not math.isfinite(loss):
            return False
        mean = statistics.fmean(window) if window else loss
        odd = len(window) == window.maxlen and loss > last and abs(loss - mean) >= 2.0 * abs(mean)
        if not odd:
            window.append(loss)
        last = loss
        return odd

    return watch


def llm_foundry() -> Watcher:
    """KillLossSpike: the loss at twice the mean of the last 100 or more, over 4 times in a row; or half the window above 10, after two
    windows."""
    window: deque[float] = deque(maxlen=100)
    high = points = 0

    def watch(values: Mapping[str, float]) -> bool:
        nonlocal high, points
        loss = values.get("loss")
        if loss is None or not math.isfinite(loss):
            return False
        points += 1
        odd = False
        if len(window) == window.maxlen:
            high = high + 1 if loss >= 2.0 * statistics.fmean(window) else 0
            persistent = points > 2 * 100 and 2 * sum(v > 10.0 for v in window) >= len(window)
            odd = high > 4 or persistent
        window.append(loss)
        return odd

    return watch


def zclip() -> Watcher:
    """The gradient norm stands more than 2.5 standard deviations above its moving average (α = 0.97), after 25 points. What is above
    is clipped before it is learned."""
    warm: list[float] = []
    mean = variance = 0.0

    def watch(values: Mapping[str, float]) -> bool:
        nonlocal mean, variance
        grad = values.get("grad_norm")
        if grad is None or not math.isfinite(grad):
            return False
        if len(warm) < 25:
            warm.append(grad)
            mean, variance = statistics.fmean(warm), statistics.pvariance(warm)
            return False
        deviation = math.sqrt(variance)
        z = (grad - mean) / (deviation + 1e-6)
        odd = z > 2.5
        seen = mean + 2.5 * deviation / (z / 2.5) if odd else grad
        variance = 0.97 * variance + 0.03 * (seen - mean) ** 2
        mean = 0.97 * mean + 0.03 * seen
        return odd

    return watch


def forgather() -> Watcher:
    """The moving average of the loss (α = 0.3) stands at least 1.0 above its best, three times in a row, after 10 points."""
    points = high = 0
    average = best = math.inf

    def watch(values: Mapping[str, float]) -> bool:
        nonlocal points, high, average, best
        loss = values.get("loss")
        if loss is None or not math.isfinite(loss):
            return False
        points += 1
        average = loss if points == 1 else 0.7 * average + 0.3 * loss
        best = min(best, average)
        high = high + 1 if average - best >= 1.0 else 0
        return points > 10 and high >= 3

    return watch


ELSEWHERE: dict[str, Callable[[], Watcher]] = {
    "OLMo-core": olmo_core, "ZClip": zclip, "Forgather": forgather, "Lightning": lightning, "llm-foundry": llm_foundry,
}  # fmt: skip
"""By the name of the tool."""
