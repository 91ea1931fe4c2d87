"""Losses that fall slowly by themselves, and such as are held back: told to ``too_slow``."""

import math

from sitter.rules.base import Case
from sitter.rules.cases.start import start


def _even(i: int) -> float:
    return 4.0 * math.exp(-i / 10_000)


def _rate(i: int) -> float:
    return 1e-6


FIRES = (
    Case("1 % in a hundred points, from the start", start(_even, n=2000), says="the rate may be too low", acts=False),
    Case("the rate is known, and steady", start(_even, n=2000, rate=_rate), says="1.0% in each hundred", acts=False),
    Case("full batches, no noise at all", start(_even, n=2000, noise=0.0), says="the rate may be too low"),
)  # fmt: skip

QUIET = (
    Case("as most losses fall", start(lambda i: 4.0 * (1 + i / 100) ** -0.2, n=5000)),
    Case("quickly, and then to a floor", start(lambda i: 1.0 + 3.0 * math.exp(-i / 800), n=5000)),
    Case("evenly, but noisily", start(_even, n=3000, noise=0.1)),
    Case("fast at first, evenly since: it has had its fast part", start(lambda i: _even(i) * (1 + 2 * math.exp(-i / 50)), n=2000)),
    Case("the rate is being warmed up", start(_even, n=3000, rate=lambda i: 1e-6 * (i + 1))),
    Case("it stands", start(lambda i: 4.0, n=3000)),
    Case("it rises", start(lambda i: 4.0 * math.exp(i / 10_000), n=3000)),
    Case("reinforcement learning", start(_even, n=3000), view={"kind": "rl"}),
    Case("a loss below zero", start(lambda i: -_even(i), n=3000)),
    Case("nearly at zero already", start(lambda i: 4.0 * math.exp(-i / 400), n=3000)),
)  # fmt: skip
