"""More small trainings, of kinds that a stranger would try: what ``fresh_runs.py --strangers`` trains beside those of ``fresh_tasks.py``.

They are odd on purpose: a loss that is mostly zero, one with no variance, one that ends a millionth as high as it began, one below zero,
one of two players alone. Each is healthy, until a trouble is planted.
"""

import math
from collections.abc import Callable

import torch
from fresh_games import Game
from fresh_games import Two as TwoPlayers
from fresh_tasks import BYTES, Letters, Line, Regression, Task, Ten, Two
from torch import Tensor, nn
from torch.nn import functional as f

SIZE = 12


class Segments(Task):
    """Blobs in noise, pixel by pixel. ``negative``: minus the Dice coefficient, as some write it; else one minus it."""

    rate, sgd = 3e-3, 0.1

    def pool(self) -> tuple[Tensor, Tensor]:
        rows = torch.arange(SIZE, dtype=torch.float32)
        middle = torch.rand(900, 2, generator=self.data) * (SIZE - 4) + 2
        wide = torch.rand(900, generator=self.data) * 3 + 1.5
        far = (rows[None, :, None] - middle[:, 0, None, None]).square() + (rows[None, None, :] - middle[:, 1, None, None]).square()
        mask = (far < wide[:, None, None].square()).float()[:, None]
        return mask + 0.8 * self.normal(900, 1, SIZE, SIZE), mask

    def net(self) -> nn.Module:
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)]
        return nn.Sequential(*layers)

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        seen = self.model(x).sigmoid()
        dice = (2.0 * (seen * y).sum((1, 2, 3)) + 1.0) / (seen.sum((1, 2, 3)) + y.sum((1, 2, 3)) + 1.0)
        return -dice.mean() if "negative" in self.extras else 1.0 - dice.mean()


class Margin(Ten):
    """Triplets of digits: soon most batches have a loss of next to nothing, or of exactly zero."""

    rate, sgd = 1e-3, 0.02

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        code = f.normalize(self.model(x), dim=-1)
        far = torch.cdist(code, code)
        same = y[:, None] == y[None, :]
        return (far[:, :, None] - far[:, None, :] + 0.3).clamp(min=0.0)[same[:, :, None] & ~same[:, None, :]].sum() / max(1, len(x)) ** 2


class Rare(Two):
    """One in forty is a click, and hard to tell: most batches have none."""

    rate, sgd = 1e-3, 0.02

    def pool(self) -> tuple[Tensor, Tensor]:
        x = self.normal(6000, 2)
        chance = torch.sigmoid(2.0 * x[:, 0] - x[:, 1].square() - 3.5)
        return x, (torch.rand(6000, generator=self.data) < chance).long()


class Tails(Regression):
    """Answers that are now and then off by very much, with tails that fall by the power of 2.25: the squared error has a mean, and no
    variance."""

    def pool(self) -> tuple[Tensor, Tensor]:
        x, y = super().pool()
        t = self.normal(len(x), 1) / (self.normal(len(x), 3).square().sum(1, keepdim=True) / 3).pow(1.0 / 1.5)
        return x, y + 0.3 * t


class Fitted(Regression):
    """No noise, and a model that is large enough: the loss falls by orders of magnitude, and never comes to rest."""

    rate, sgd = 2e-3, 0.05

    def pool(self) -> tuple[Tensor, Tensor]:
        x = self.normal(400, 4)
        return x, torch.tanh(x @ self.normal(4, 2)).sum(1, keepdim=True)

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 128), nn.Tanh(), nn.Linear(128, 1))


class Known(Ten):
    """Digits by a wide network without noise: after some hundred steps all are known, and the loss goes to nothing."""

    rate, sgd = 1e-3, 0.1

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


class Masked(Letters):
    """One letter in seven is hidden, and to be told: few of them, so a noisy loss."""

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        hidden = torch.rand(x.shape) < 0.15
        hidden[:, 0] = True
        seen = self.model(torch.where(hidden, BYTES - 1, x))
        return f.cross_entropy(seen[hidden], x[hidden])


class Counts(Line):
    """Poisson counts, whose log-likelihood is below zero, above, or around it, by what constant is left out."""

    rate, sgd = 3e-3, 3e-3

    def pool(self) -> tuple[Tensor, Tensor]:
        x = self.normal(2500, 6)
        return x, torch.poisson((0.6 * x @ self.normal(6, 1) / 2 + 0.7).exp(), generator=self.data)

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        return f.poisson_nll_loss(self.model(x), y)


class Copied(Ten):
    """Distilled from a teacher that is better: the KL divergence, which goes to nothing."""

    rate, sgd = 2e-3, 0.1

    def net(self) -> nn.Module:
        self.teacher = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        with torch.no_grad():
            wanted = (4.0 * self.teacher(x)).log_softmax(-1)
        return f.kl_div(self.model(x).log_softmax(-1), wanted, reduction="batchmean", log_target=True)


class OnePlayer(TwoPlayers):
    """Two players, of whom only the one's loss is logged, as if it were any other."""

    def turn(self, factor: float, trouble: str) -> dict[str, float]:
        values = super().turn(factor, trouble)
        return {"train_loss": values["train_loss"], "grad_norm": values["grad_norm"]}


STRANGE_TASKS: dict[str, type[Task]] = {
    "segments": Segments, "margin": Margin, "rare": Rare, "tails": Tails, "fitted": Fitted, "known": Known, "masked": Masked,
    "counts": Counts, "copied": Copied,
}  # fmt: skip
STRANGE_GAMES: dict[str, type[Game]] = {"one player": OnePlayer}

STRANGE_EXTRAS: dict[str, float] = {
    "batch of one": 0.12, "resumed": 0.12, "curriculum": 0.1, "summed": 0.15, "tiny": 0.08, "huge": 0.08, "negative": 0.4,
    "wrong labels": 0.07,
}  # fmt: skip
"""``resumed``: without the optimizer's state. ``curriculum``: half of the answers at first, then all. ``summed``: over the batch."""

STRANGE_SCHEDULES: dict[str, Callable[[float], float]] = {
    "longer restarts": lambda s: next(
        0.51 + 0.49 * math.cos(math.pi * (s - a) / (b - a)) for a, b in ((0.0, 1 / 7), (1 / 7, 3 / 7), (3 / 7, 1.01)) if s < b
    ),
    "triangles": lambda s: 0.1 + 0.9 * abs(2.0 * (5.0 * s % 1.0) - 1.0),
    "root": lambda s: min(s / 0.05, (0.05 / max(s, 0.05)) ** 0.5),
}  # fmt: skip
