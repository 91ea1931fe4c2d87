"""Losses that swing, and losses that only jump about: told to ``oscillation``."""

import math

from sitter.rules.base import Case
from sitter.rules.cases.course import course, swinging

RATE = {"scales": {"lr": 1.0}}


def swing(i: int, period: float, *, since: int = 1000, growth: float = 0.005, most: float = 1.0) -> float:
    """A factor that swings ever wider from point ``since`` on."""
    return math.exp(min(most, 0.02 * math.exp(growth * (i - since))) * math.sin(2 * math.pi * i / period)) if i >= since else 1.0


FIRES = (
    Case("up and down, twenty points each way, ever wider", course(lambda i, v: v * swing(i, 40), n=2000), acts=True,
         says="around its level every 39 points", view=RATE),
    Case("at every other point", course(lambda i, v: v * math.exp((-1) ** i * min(1.5, 0.02 * 1.01 ** max(0, i - 1000))), n=2000),
         says="every 2 points", acts=True, view=RATE),
    Case("it calms down again", course(lambda i, v: v * swing(i, 24, most=0.8) if i < 1800 else v, n=2200), says="no more"),
    Case("a log of every 100th step", course(lambda i, v: v * swing(i, 10), n=2000, every=100), says="10 points (988 steps)"),
)  # fmt: skip

QUIET = (
    Case("a run like any other", course(n=5000), view=RATE),
    Case("a noisy one", course(n=5000, noise=0.3), view=RATE),
    Case("it becomes noisier", course(lambda i, v: v * (1.0 if i < 2000 else math.exp(0.4 * math.sin(i * i * 12.9898))), n=5000),
         view=RATE),
    Case("mixup: two levels, by chance", course(swinging, n=5000), view=RATE),
    Case("it has swung from the start, as wide as ever: its data does", course(lambda i, v: v * math.exp(0.3 * math.sin(i / 6)), n=5000),
         view=RATE),
    Case("slowly, as a cyclic rate does", course(lambda i, v: v * swing(i, 1000), n=5000), view=RATE),
    Case("a bad batch now and then", course(lambda i, v: v * (3.0 if i % 97 == 50 else 1.0), n=5000), view=RATE),
    Case("a spike, and it heals", course(lambda i, v: v * (1 + 4 * math.exp(-(i - 1000) / 9) if i >= 1000 else 1.0), n=2000), view=RATE),
    Case("reinforcement learning", course(lambda i, v: v * swing(i, 40), n=2000), view={**RATE, "kind": "rl"}),
    Case("a loss around zero", course(lambda i, v: v * swing(i, 40) - 2.0, n=2000), view=RATE),
)  # fmt: skip
