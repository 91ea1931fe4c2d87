"""Losses that leave their course, and losses that only look like it: what the rules on the course of training must see and must not."""

import math
import random
from collections.abc import Callable, Iterator

from sitter.rules.base import Case
from sitter.rules.view import Sample

Story = Callable[[], Iterator[Sample]]


def course(
    loss: Callable[[int, float], float] = lambda i, v: v, n: int = 600, noise: float = 0.05, *, every: int = 1, low: float = 2.0,
    val: Callable[[int, float], float] | None = None, val_every: int = 20, name: str = "val_loss",
) -> Story:  # fmt: skip
    """A loss that falls from 4 to ``low`` within 200 points, with log-normal noise; ``loss`` changes what is logged at point ``i``. ``val``
    is logged as ``name`` every ``val_every`` points."""

    def play() -> Iterator[Sample]:
        rng = random.Random(11)
        for i in range(n):
            level = low + (4.0 - low) * math.exp(-i / 60.0)
            values = {"loss": loss(i, level * math.exp(rng.gauss(0.0, noise)))}
            if val is not None and i % val_every == 0:
                values[name] = val(i, 1.05 * level * math.exp(rng.gauss(0.0, noise / 3)))
            yield Sample(step=i * every, branch=0, time=float(i * every), values=values)

    return play


def swinging(i: int, v: float) -> float:
    """Mixup: two levels, by chance."""
    return v * (1.9 if (i * 2654435761 >> 7) % 3 == 0 else 1.0)


def rounded(i: int, v: float) -> float:
    """Small, slowly up and down by a sixth, and logged with two decimals."""
    return round(v * (1.0 + 0.15 * math.sin(i / 40)) / 130, 2)


def smoothed(keep: float = 0.9, every: int = 60) -> Callable[[int, float], float]:
    """A running mean of a loss that, from the 300th point on, has a bad batch every so often: 3 × as high."""
    mean = 0.0

    def told(i: int, v: float) -> float:
        nonlocal mean
        value = v * (3.0 if i >= 300 and i % every == 0 else 1.0)
        mean = value if i == 0 else keep * mean + (1.0 - keep) * value
        return mean

    return told


SPIKE_FIRES = (
    Case("twice its level for ten steps, and it heals", course(lambda i, v: v * (2.0 if 300 <= i < 310 else 1.0)),
         says="healed by itself", acts=False),
    Case("a spike that decays", course(lambda i, v: v * (1 + 1.5 * math.exp(-(i - 300) / 8) if i >= 300 else 1.0)),
         says="× its usual level", acts=False),
    Case("one point in a log of every 100th step", course(lambda i, v: v * (1.9 if i == 300 else 1.0), every=100),
         says="× its usual level at step 30,000"),
    Case("it jumps, and rises on", course(lambda i, v: v * (1.8 * 1.3 ** (i - 300) if 300 <= i < 315 else 1.0)), says="and it rises"),
    Case("it jumps and stays", course(lambda i, v: v * (2.5 if i >= 300 else 1.0)), says="taken for usual"),
    Case("ruin from the start", course(lambda i, v: v * (60.0 if i >= 1 else 1.0), n=30), says="× its usual level"),
    Case("the fifth spike of a run that has had four", course(lambda i, v: v * (1.8 if i > 100 and i % 100 < 6 else 1.0)),
         says="at step 502"),
)  # fmt: skip

SPIKE_QUIET = (
    Case("a run like any other", course(n=3000)),
    Case("a noisy one", course(n=3000, noise=0.3)),
    Case("bad batches: + 45 % for one step, again and again", course(lambda i, v: v * (1.45 if i % 97 == 50 else 1.0), n=2000)),
    Case("one batch of 3 × the loss", course(lambda i, v: v * (3.0 if i == 300 else 1.0))),
    Case("rounded to two decimals: 0.01, 0.02", course(rounded, n=2000, noise=0.03)),
    Case("mixup: the loss swings between two levels", course(swinging, n=3000, every=100)),
    Case("smoothed, with a bad batch now and then", course(smoothed(), n=3000, noise=0.3)),
    Case("a warm restart: + 25 %, and it settles", course(lambda i, v: v * (1 + 0.25 * math.exp(-(i - 300) / 30) if i >= 300 else 1.0))),
    Case("a sudden improvement", course(lambda i, v: v * (0.3 if i >= 300 else 1.0))),
    Case("reinforcement learning", course(lambda i, v: v * (3.0 if i % 100 < 20 else 1.0)), view={"kind": "rl"}),
    Case("a loss around zero and below", course(lambda i, v: v - 3.0)),
    Case("a loss that is negative throughout, and falls", course(lambda i, v: -10.0 + v)),
    Case("full batches, no noise, a step decay of the rate", course(lambda i, v: v * (0.8 if i >= 300 else 1.0), noise=0.0)),
    Case("not finite: the guard says it", course(lambda i, v: math.nan if i >= 300 else v)),
)  # fmt: skip

DIVERGENCE_FIRES = (
    Case("it rises by 1 % a step for a hundred steps", course(lambda i, v: v * 1.01 ** min(100, max(0, i - 300))),
         says="the best it has been", acts=True),
    Case("both losses rise by a third", course(lambda i, v: v * (1 + min(0.35, max(0, i - 300) / 200)), n=800,
         val=lambda i, v: v * (1 + min(0.35, max(0, i - 300) / 200))), says="training and validation loss", acts=True),
    Case("only evaluations are logged", course(lambda i, v: v * (1 + max(0, i - 40) / 20), n=60, every=500, val_every=1,
         val=lambda i, v: v * (1 + max(0, i - 40) / 20)), says="training and validation loss", acts=True),
    Case("it comes back by itself", course(lambda i, v: v * (1 + 0.8 * math.exp(-((i - 320) / 40) ** 2))), says="by itself"),
)  # fmt: skip

DIVERGENCE_QUIET = (
    Case("a run like any other", course(n=3000, val=lambda i, v: v)),
    Case("a noisy one", course(n=3000, noise=0.3, val=lambda i, v: v)),
    Case("rounded to two decimals: 0.01, 0.02", course(rounded, n=2000, noise=0.03)),
    Case("a spike that heals within ten points", course(lambda i, v: v * (3.0 if 300 <= i < 309 else 1.0), val=lambda i, v: v)),
    Case("overfitting: only the validation loss rises", course(n=2000, val=lambda i, v: v * (1 + i / 1000))),
    Case("the training loss becomes noisier, the validation loss falls on", course(lambda i, v: v * (1.3 if i > 300 else 1.0),
         val=lambda i, v: v)),
    Case("a warm restart: + 40 %, and it settles", course(lambda i, v: v * (1 + 0.4 * math.exp(-(i - 300) / 60) if i >= 300 else 1.0))),
    Case("BatchNorm: one evaluation in five is far off", course(n=2000, val=lambda i, v: v * (2.5 if i // 20 % 5 == 3 else 1.0))),
    Case("reinforcement learning", course(lambda i, v: v * (1 + i / 100)), view={"kind": "rl"}),
    Case("a loss around zero and below", course(lambda i, v: v - 2.5, n=2000)),
)  # fmt: skip
