"""Small real trainings of many kinds, seconds each: what ``fresh_runs.py`` trains. Everything is drawn from a seed.

A supervised task holds a pool of examples and says the loss of a batch; the loop in ``fresh_runs.py`` does the rest. The tasks of
reinforcement learning, and the one of two players, make their own turn.
"""

import abc
import argparse
import math
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as f

BYTES = 128


class Task(abc.ABC):
    """``rate`` suits Adam, ``sgd`` suits SGD with momentum. ``extras`` are the recipe's, of which each task takes what it knows."""

    rate, sgd = 3e-3, 0.03
    text = False
    """Inputs are numbers of letters, not measurements."""

    def __init__(self, seed: int, extras: frozenset[str]) -> None:
        self.extras = extras
        self.draws = torch.Generator().manual_seed(seed)
        self.data = torch.Generator().manual_seed(seed + 1)
        self.place = 0
        self.half = False
        """Only the half of the examples with the smaller answers is given."""
        self.x, self.y = self.pool()
        cut = int(0.85 * len(self.x))
        order = torch.randperm(len(self.x), generator=self.data)
        few = 8 if "tiny val" in extras else 256
        self.held_out = self.x[order[cut : cut + few]], self.y[order[cut : cut + few]]
        self.x, self.y = self.x[order[:cut]], self.y[order[:cut]]
        if "tiny set" in extras:
            self.x, self.y = self.x[:24], self.y[:24]
        if "sorted" in extras:  # never shuffled: every pass the same
            order = torch.argsort(self.x.flatten(1).float().sum(1))
            order = order.view(-1, 2).flip(1).flatten() if len(order) % 2 == 0 else order
            self.x, self.y = self.x[order], self.y[order]
        self.easy = torch.argsort(self.y.flatten(1).float().mean(1) if self.y.dim() > 1 else self.y)[: len(self.y) // 2]
        if {"label noise", "wrong labels"} & extras and not self.y.is_floating_point():
            wrong = torch.rand(self.y.shape, generator=self.data) < (0.6 if "wrong labels" in extras else 0.2)
            self.y = torch.where(wrong, self.y.flatten()[torch.randperm(self.y.numel(), generator=self.data)].view_as(self.y), self.y)
        self.model = self.net()

    @abc.abstractmethod
    def pool(self) -> tuple[Tensor, Tensor]:
        """All examples."""

    @abc.abstractmethod
    def net(self) -> nn.Module:
        """A new model."""

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """Of a batch, ``share`` of the way through the run."""
        return f.cross_entropy(self.model(x), y, label_smoothing=0.1 if "smoothing" in self.extras else 0.0)

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """The next one."""
        if "sorted" in self.extras:
            i = torch.arange(self.place, self.place + n) % len(self.x)
            self.place += n
        elif self.half:
            i = self.easy[torch.randint(len(self.easy), (n,), generator=self.draws)]
        else:
            i = torch.randint(len(self.x), (n,), generator=self.draws)
        x, y = self.x[i], self.y[i]
        if "mixup" in self.extras and not self.text and torch.rand((), generator=self.draws) < 0.5:
            x = 0.5 * (x + x.flip(0))
        return x, y

    def spoilt(self, x: Tensor) -> Tensor:
        """Inputs of a bad batch."""
        if self.text:
            return torch.randint(BYTES, x.shape, generator=self.data)
        return x * 30.0

    def dropout(self) -> nn.Module:
        """Where the recipe wants it."""
        return nn.Dropout(0.3) if "dropout" in self.extras else nn.Identity()

    def normal(self, *shape: int) -> Tensor:
        """Noise that belongs to the data."""
        return torch.randn(*shape, generator=self.data)


class Line(Task):
    """Linear regression."""

    rate, sgd = 1e-2, 0.02

    def pool(self) -> tuple[Tensor, Tensor]:
        x = self.normal(1500, 12)
        return x, x @ self.normal(12, 1) + 0.3 * self.normal(1500, 1) + 2.0

    def net(self) -> nn.Module:
        return nn.Linear(12, 1)

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        return f.mse_loss(self.model(x), y)


class Regression(Line):
    """A teacher network, its answers a little noisy; or, heavy, now and then far off."""

    rate, sgd = 3e-3, 0.02

    def pool(self) -> tuple[Tensor, Tensor]:
        x = self.normal(2500, 8)
        y = torch.tanh(x @ self.normal(8, 24) / 2) @ self.normal(24, 1)
        noise = self.normal(2500, 1)
        return x, y + (0.3 * noise.pow(3) if "heavy" in self.extras else 0.05 * noise)

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 64), nn.Tanh(), self.dropout(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


class Two(Task):
    """Two classes that overlap."""

    def pool(self) -> tuple[Tensor, Tensor]:
        y = torch.randint(2, (3000,), generator=self.data)
        turn = torch.rand(3000, generator=self.data) * math.pi
        x = torch.stack([turn.cos() + y, (turn.sin() - 0.4) * (1 - 2.0 * y)], 1)
        return x + 0.3 * self.normal(3000, 2), y

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 48), nn.ReLU(), self.dropout(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))


class Ten(Task):
    """scikit-learn's digits."""

    rate, sgd = 2e-3, 0.05

    def pool(self) -> tuple[Tensor, Tensor]:
        data = load_digits()
        return torch.tensor(data.data / 16.0, dtype=torch.float32), torch.tensor(data.target)

    def net(self) -> nn.Module:
        norm = nn.BatchNorm1d(64) if "batch norm" in self.extras else nn.Identity()
        return nn.Sequential(nn.Linear(64, 64), norm, nn.ReLU(), self.dropout(), nn.Linear(64, 10))


class FineTuned(Ten):
    """Half a minute of it done already, and then other digits: their negatives."""

    rate, sgd = 3e-4, 0.005

    def net(self) -> nn.Module:
        model = super().net()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(300):
            i = torch.randint(len(self.x), (64,), generator=self.data)
            optimizer.zero_grad()
            f.cross_entropy(model(self.x[i]), self.y[i]).backward()
            optimizer.step()
        self.x = torch.where(torch.rand(len(self.x), 1, generator=self.data) < 0.5, 1.0 - self.x, self.x)
        return model


class Thousand(Task):
    """A thousand classes."""

    rate, sgd = 3e-3, 0.3

    def pool(self) -> tuple[Tensor, Tensor]:
        middle = self.normal(1000, 24)
        y = torch.randint(1000, (12000,), generator=self.data)
        return middle[y] + 0.4 * self.normal(12000, 24), y

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(24, 96), nn.ReLU(), self.dropout(), nn.Linear(96, 1000))


class Letters(Task):
    """Python's own source, letter by letter; a small transformer. ``sequence``: short ones first."""

    text = True
    rate, sgd = 3e-3, 0.1

    def pool(self) -> tuple[Tensor, Tensor]:
        data = torch.tensor([min(b, BYTES - 1) for b in Path(argparse.__file__).read_bytes()])
        windows = data.unfold(0, 33, 4)
        return windows[:, :-1], windows[:, 1:]

    def net(self) -> nn.Module:
        return Transformer(self.dropout())

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        if "sequence" in self.extras and share < 0.4:
            n = 8 if share < 0.2 else 16
            x, y = x[:, :n], y[:, :n]
        return f.cross_entropy(self.model(x).flatten(0, 1), y.flatten())


class Transformer(nn.Module):
    """One block."""

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        self.letters, self.places, self.drop = nn.Embedding(BYTES, 32), nn.Embedding(32, 32), dropout
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(32), nn.LayerNorm(32), nn.LayerNorm(32)
        self.ask, self.tell = nn.Linear(32, 96), nn.Linear(32, 32)
        self.wide, self.out = nn.Sequential(nn.Linear(32, 96), nn.GELU(), nn.Linear(96, 32)), nn.Linear(32, BYTES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.letters(x) + self.places(torch.arange(x.shape[1]))
        q, k, v = self.ask(self.norm1(h)).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
        seen = f.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        h = h + self.drop(self.tell(seen))
        return self.out(self.norm3(h + self.drop(self.wide(self.norm2(h)))))


class Recurrent(Letters):
    """The same by an LSTM."""

    def net(self) -> nn.Module:
        return Lstm()


class Lstm(nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.cell, self.out = nn.Embedding(BYTES, 24), nn.LSTM(24, 48, batch_first=True), nn.Linear(48, BYTES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(self.letters(x))[0])


class Autoencoder(Ten):
    """Digits through eight numbers; squared error."""

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 8), nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64))

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        return f.mse_loss(self.model(x), x)


class Variational(Ten):
    """Negative ELBO in nats, the prior's weight rising over the first third; with ``density`` a normal one, which goes below zero."""

    def net(self) -> nn.Module:
        self.width = nn.Parameter(torch.zeros(()))
        return nn.ModuleList([nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)), nn.Sequential(nn.Linear(8, 64), nn.ReLU(),
                             nn.Linear(64, 64))]).append(nn.ParameterList([self.width]))  # fmt: skip

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        mean, log_var = self.model[0](x).chunk(2, -1)
        code = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        prior = 0.5 * (mean.square() + log_var.exp() - log_var - 1.0).sum(-1).mean()
        seen = self.model[1](code)
        if "density" in self.extras:
            far = (0.5 * (x - seen).square() * (-2.0 * self.width).exp() + self.width + 0.919).sum(-1).mean()
        else:
            far = f.binary_cross_entropy_with_logits(seen, x, reduction="none").sum(-1).mean()
        return far + min(1.0, 3.0 * share) * prior


class Contrastive(Ten):
    """InfoNCE of two noisy views."""

    rate, sgd = 1e-3, 0.05

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 24))

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        one, other = (f.normalize(self.model(x + 0.25 * torch.randn_like(x)), dim=-1) for _ in range(2))
        return f.cross_entropy(one @ other.T / 0.1, torch.arange(len(x)))


class Preferences(Task):
    """DPO: which of two answers is the better one, against a frozen reference; from ln 2 down."""

    rate, sgd = 1e-3, 0.05

    def pool(self) -> tuple[Tensor, Tensor]:
        x = self.normal(2500, 2, 16)
        better = (torch.tanh(x @ self.normal(16)) + 0.3 * self.normal(2500, 2)).argmax(1)
        return x, better

    def net(self) -> nn.Module:
        self.reference = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
        model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
        model.load_state_dict(self.reference.state_dict())
        return model

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        with torch.no_grad():
            reference = self.reference(x).squeeze(-1)
        margin = self.model(x).squeeze(-1) - reference
        sign = 1.0 - 2.0 * y
        return -f.logsigmoid(2.0 * sign * (margin[:, 0] - margin[:, 1])).mean()


class Density(Task):
    """Negative log-likelihood of a narrow distribution: soon below zero."""

    rate, sgd = 3e-3, 3e-3

    def pool(self) -> tuple[Tensor, Tensor]:
        x = self.normal(2500, 4)
        return x, torch.sin(x @ self.normal(4, 2)) + 0.05 * self.normal(2500, 2)

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 4))

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        mean, log_width = self.model(x).chunk(2, -1)
        return (0.5 * ((y - mean) * (-log_width).exp()).square() + log_width).mean()


class Diffusion(Task):
    """Which noise was added, by how much: noisy for ever, and near its floor soon."""

    rate, sgd = 2e-3, 0.03

    def pool(self) -> tuple[Tensor, Tensor]:
        turn = torch.rand(3000, generator=self.data) * 2 * math.pi
        x = torch.stack([turn.cos(), turn.sin()], 1) * (1.0 + 0.1 * self.normal(3000, 1))
        return x, x

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        t, noise = torch.rand(len(x), 1), torch.randn_like(x)
        seen = (1.0 - t).sqrt() * x + t.sqrt() * noise
        return f.mse_loss(self.model(torch.cat([seen, t], 1)), noise)


SUPERVISED: dict[str, type[Task]] = {
    "line": Line, "regression": Regression, "two classes": Two, "ten classes": Ten, "fine-tuned": FineTuned, "thousand classes": Thousand,
    "transformer": Letters, "lstm": Recurrent, "autoencoder": Autoencoder, "variational": Variational, "contrastive": Contrastive,
    "preferences": Preferences, "density": Density, "diffusion": Diffusion,
}  # fmt: skip
