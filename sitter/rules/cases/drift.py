"""Runs that learn by heart and runs that stand still, and runs that do neither: told to ``overfit`` and ``plateau``."""

import math

from sitter.rules.base import Case
from sitter.rules.cases.course import course

RATE = {"scales": {"lr": 1.0}}

OVERFIT_FIRES = (
    Case("the validation loss turns and rises, the training loss falls on",
         course(n=3000, low=1.0, loss=lambda i, v: v * math.exp(-i / 3000), val=lambda i, v: v * (1 + max(0, i - 1000) / 5000)),
         says="overfitting", acts=True),
    Case("an accuracy falls, as the goal", course(n=3000, loss=lambda i, v: v * math.exp(-i / 3000), name="val_acc",
         val=lambda i, v: 0.7 * (1 - max(0, i - 1000) / 8000) * v / v), says="val_acc", view={"goal": "val_acc", "better": "higher"}),
)  # fmt: skip

OVERFIT_QUIET = (
    Case("both fall", course(n=3000, val=lambda i, v: v)),
    Case("the validation loss stands far above, and still falls", course(n=3000, loss=lambda i, v: v * math.exp(-i / 1000),
         val=lambda i, v: 3 * v * math.exp(-i / 9000))),
    Case("mixup: the training loss stands above", course(n=3000, val=lambda i, v: 0.5 * v)),
    Case("both rise", course(n=2000, loss=lambda i, v: v * (1 + i / 2000), val=lambda i, v: v * (1 + i / 2000))),
    Case("a very noisy evaluation", course(n=6000, loss=lambda i, v: v * math.exp(-i / 6000),
         val=lambda i, v: v * (1.6 if i // 20 * 2654435761 >> 7 & 3 == 0 else 1.0))),
    Case("the accuracy is still rising though its loss rises too", course(n=3000, loss=lambda i, v: v * math.exp(-i / 3000),
         val=lambda i, v: v * (1 + i / 3000)), view={"goal": "val_acc", "better": "higher"}),
    Case("no evaluation", course(n=3000)),
)  # fmt: skip

PLATEAU_FIRES = (
    Case("it stands still from the start", course(lambda i, v: v / v * 6.9 * math.exp(0.01 * math.sin(i)), n=2000), says="has not fallen",
         acts=True, view=RATE),
    Case("it falls, and then it stands", course(n=4000, noise=0.03), says="has not fallen", acts=True, view=RATE),
    Case("no rate that could be set: said all the same", course(n=4000, noise=0.03), says="has not fallen", acts=False),
)  # fmt: skip

PLATEAU_QUIET = (
    Case("a spike near the end of the stretch lifts the mean of it as far as the loss had fallen",
         course(lambda i, v: v * math.exp(-i / 4000) * (19.0 if 940 <= i < 947 else 1.0), n=1040), view=RATE),
    Case("it falls slowly", course(lambda i, v: v * (1 + i / 100) ** -0.1, n=8000), view=RATE),
    Case("a run of 900 points", course(n=900), view=RATE),
    Case("nearly at its end", course(n=4000), view={**RATE, "total": 1100}),
    Case("reinforcement learning", course(n=4000), view={**RATE, "kind": "rl"}),
    Case("a loss below zero", course(lambda i, v: -v, n=4000), view=RATE),
    Case("it rises", course(lambda i, v: v * (1 + i / 1000), n=4000), view=RATE),
)  # fmt: skip
