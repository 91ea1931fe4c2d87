"""The first steps of runs: told to ``stuck_at_start`` and ``warmup_missing``."""

import math
import random
from collections.abc import Callable, Iterator

from sitter.rules.base import Case
from sitter.rules.cases.course import Story
from sitter.rules.view import Sample


def start(
    loss: Callable[[int], float], n: int = 600, noise: float = 0.01, *, every: int = 1, first: int = 0,
    rate: Callable[[int], float] | None = None, norm: Callable[[int], float] | None = None,
) -> Story:  # fmt: skip
    """``loss`` at point ``i`` with log-normal noise, and the rate and gradient norm where they are logged."""

    def play() -> Iterator[Sample]:
        rng = random.Random(3)
        for i in range(n):
            values = {"loss": loss(i) * math.exp(rng.gauss(0.0, noise))}
            if rate is not None:
                values["lr"] = values["lr_scheduled"] = rate(i)
            if norm is not None:
                values["grad_norm"] = norm(i) * math.exp(rng.gauss(0.0, 0.1))
            yield Sample(step=first + i * every, branch=0, time=float(i * every), values=values)

    return play


def _stands(i: int) -> float:
    return math.log(100)


def _falls(i: int) -> float:
    return math.log(100) * (0.5 + 0.5 * math.exp(-i / 100))


def _full(i: int) -> float:
    return 1e-3


def _warmed(i: int) -> float:
    return 1e-3 * min(1.0, (i + 1) / 200)


def _jumps(i: int) -> float:
    return 4.6 * (1 + 1.5 * math.exp(-(((i - 20) / 15) ** 2))) * math.exp(-i / 300)


STUCK_FIRES = (
    Case("it stands at the logarithm of a hundred", start(_stands), says="= ln 100: it predicts nothing yet", acts=False),
    Case("ImageNet", start(lambda i: 6.908, noise=0.003), says="ln 1,000"),
    Case("two classes", start(lambda i: 0.6935, noise=0.02), says="ln 2:"),
    Case("worse than a guess", start(lambda i: 6.908 if i == 0 else 7.2, noise=0.0002), says="(6.908 = ln 1,000)"),
    Case("no number of classes fits", start(lambda i: 3.2), says="where it began"),
    Case("it begins to fall after all", start(lambda i: _falls(max(0, i - 500)), n=800), says="begun to fall"),
)  # fmt: skip

STUCK_QUIET = (
    Case("a run that falls", start(_falls, n=2000)),
    Case("it falls slowly", start(lambda i: 4.6 * (1 - i / 20_000), n=2000)),
    Case("a long warm-up", start(lambda i: _falls(max(0, i - 500)), n=800, rate=lambda i: 1e-6 * (i + 1))),
    Case("too early to say", start(_stands, n=300)),
    Case("it rises", start(lambda i: 4.6 * (1 + i / 1000), n=2000)),
    Case("it fell first, and stands then: a plateau", start(lambda i: max(3.0, _falls(i)), n=2000)),
    Case("noise that hides everything", start(_stands, n=1000, noise=0.5)),
    Case("a loss of zero", start(lambda i: 0.0, n=1000)),
    Case("a loss below zero", start(lambda i: -4.6, n=1000)),
)  # fmt: skip

WARMUP_FIRES = (
    Case("the loss doubles at once, at a full rate", start(_jumps, rate=_full), says="no warm-up", acts=False),
    Case("the gradient norm is known", start(_jumps, rate=_full, norm=lambda i: 10.0 if i > 5 else 1.0), says="the gradient norm to"),
    Case("it comes down again", start(_jumps, rate=_full), says="lower than at the start"),
)  # fmt: skip

WARMUP_QUIET = (
    Case("a run like any other, without warm-up", start(_falls, rate=_full)),
    Case("warmed up, and it rises all the same", start(_jumps, rate=_warmed)),
    Case("no rate is known", start(_jumps)),
    Case("it went on from another run: the first steps are not there", start(_jumps, first=40_000, rate=_full)),
    Case("a sparse log", start(_jumps, every=50, rate=_full)),
    Case("one bad batch", start(lambda i: 12.0 if i == 10 else _falls(i), rate=_full)),
    Case("a noisy one", start(_falls, noise=0.3, rate=_full)),
    Case("a loss below zero", start(lambda i: -_jumps(i), rate=_full)),
)  # fmt: skip
