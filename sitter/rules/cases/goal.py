"""Goals that come to an end, and goals that only seem to: told to ``goal_best`` and ``early_stop``."""

import math
import random
from collections.abc import Callable, Iterator

from sitter.rules.base import Case
from sitter.rules.cases.course import Story
from sitter.rules.view import Sample


def goal(
    value: Callable[[int], float], n: int = 100, noise: float = 0.002, *, name: str = "val_loss",
    rate: Callable[[int], float] | None = None, every: int = 100,
) -> Story:  # fmt: skip
    """``n`` evaluations, ``value`` of the ``i``-th with some noise put on; ``rate`` is logged with each of them."""

    def play() -> Iterator[Sample]:
        rng = random.Random(5)
        for i in range(n):
            values = {name: value(i) + rng.gauss(0.0, noise)}
            if rate is not None:
                values["lr"] = values["lr_scheduled"] = rate(i)
            yield Sample(step=i * every, branch=0, time=float(i * every), values=values)

    return play


def _falls(i: int) -> float:
    return 2.0 + 2.0 * math.exp(-i / 30)


def _settles(i: int) -> float:
    return 2.0 + 2.0 * math.exp(-i / 4)


ACCURACY = {"goal": "val_acc", "better": "higher"}

BEST_FIRES = (
    Case("it stood for sixty evaluations, and falls again", goal(lambda i: _settles(i) - (0.2 if i >= 80 else 0.0)),
         says="better than ever", acts=False),
    Case("an accuracy", goal(lambda i: 3 - _settles(i) + (0.2 if i >= 80 else 0.0), name="val_acc"), says="val_acc", view=ACCURACY),
    Case("a reward below zero", goal(lambda i: -_settles(i) + (0.3 if i >= 80 else 0.0), name="reward"), says="reward",
         view={"goal": "reward", "better": "higher", "kind": "rl"}),
)  # fmt: skip

BEST_QUIET = (
    Case("better at every evaluation", goal(_falls)),
    Case("it stands, and only chance makes a new best", goal(_settles, n=400)),
    Case("it gets worse", goal(lambda i: 2.0 + i / 100)),
    Case("not finite", goal(lambda i: math.nan)),
)  # fmt: skip

STOP_FIRES = (
    Case("no better for 300 evaluations", goal(_settles, n=330), says="no better", acts=True),
    Case("an accuracy that stands", goal(lambda i: 3 - _settles(i), n=330, name="val_acc"), says="val_acc", acts=True, view=ACCURACY),
    Case("it gets worse, without any training loss logged", goal(lambda i: 2.0 + abs(i - 20) / 100), says="no better", acts=True),
    Case("the rate is down, and so is what there was to win", goal(_settles, rate=lambda i: 1e-3 * (0.05 if i > 20 else 1.0)),
         says="no better", acts=True, view={"total": 10_000}),
    Case("a cosine that has come down", goal(_settles, rate=lambda i: 5e-4 * (1 + math.cos(math.pi * i / 330)), n=328), says="no better",
         acts=True, view={"total": 33_000}),
)  # fmt: skip

STOP_QUIET = (
    Case("better at every evaluation", goal(_falls, n=150)),
    Case("a noisy one that still gets better", goal(lambda i: 2.0 + 2.0 / (1 + i / 50), n=300, noise=0.03)),
    Case("the rate is still high, and the end is known", goal(_settles, rate=lambda i: 1e-3), view={"total": 20_000}),
    Case("a cosine in the midst of its way down", goal(_settles, rate=lambda i: 5e-4 * (1 + math.cos(math.pi * i / 330)), n=290),
         view={"total": 33_000}),
    Case("seven evaluations without a better one", goal(lambda i: _falls(min(i, 40)), n=48)),
    Case("early: hardly anything done", goal(_settles, n=40), view={"total": 100_000}),
    Case("no goal is logged", goal(_settles, name="val_acc")),
)  # fmt: skip
