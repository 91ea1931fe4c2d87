"""Steps a second, over the last minute in which there were any."""

from collections import deque

WINDOW_S = 60.0
APART_S = 0.25
"""Of what is remembered: steps may come by the thousand."""
LEAST_S = 0.5


class StepRate:
    """Of one stretch of steps. Times in seconds of one clock."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=512)

    def step(self, step: int, at: float) -> None:
        """The run was at this step; an earlier one than before begins anew."""
        seen = self._seen
        if seen and (step < seen[-1][1] or at < seen[-1][0]):
            seen.clear()
        if not seen or at - seen[-1][0] > APART_S:
            seen.append((at, step))
            while at - seen[0][0] > WINDOW_S:
                seen.popleft()

    def clear(self) -> None:
        """Another stretch begins."""
        self._seen.clear()

    def per_s(self) -> float | None:
        """None before there were two steps half a second apart."""
        if len(self._seen) < 2:
            return None
        (t0, s0), (t1, s1) = self._seen[0], self._seen[-1]
        return (s1 - s0) / (t1 - t0) if t1 - t0 > LEAST_S and s1 > s0 else None
