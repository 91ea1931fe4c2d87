"""Data and models, seconds each, of the trainings in ``inside_recipes.py``. Everything is drawn from a seed."""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as f

BATCH = 24
LETTERS = 128


# -- data -----------------------------------------------------------------------------------------------------------------


def vectors(seed: int, classes: int = 10, noise: float = 0.1) -> Iterator[tuple[Tensor, Tensor]]:
    """32 numbers, and the class that a random network gives them; a tenth of the classes are wrong."""
    draws = torch.Generator().manual_seed(seed + 1)
    one, two = torch.randn(32, 64, generator=draws), torch.randn(64, classes, generator=draws)
    while True:
        x = torch.randn(BATCH, 32, generator=draws)
        y = (torch.relu(x @ one) @ two).argmax(1)
        wrong = torch.rand(BATCH, generator=draws) < noise
        yield x, torch.where(wrong, torch.randint(classes, (BATCH,), generator=draws), y)


def images(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Of 3 × 12 × 12: one of ten patterns, moved about, with as much noise."""
    draws = torch.Generator().manual_seed(seed + 1)
    patterns = torch.randn(10, 3, 12, 12, generator=draws)
    while True:
        y = torch.randint(10, (BATCH,), generator=draws)
        move = int(torch.randint(-2, 3, (1,), generator=draws))
        yield torch.roll(patterns[y], move, 3) + torch.randn(BATCH, 3, 12, 12, generator=draws), y


def letters(seed: int, long: int = 16) -> Iterator[tuple[Tensor, Tensor]]:
    """Stretches of a Python module, and the same one letter on."""
    draws = torch.Generator().manual_seed(seed + 1)
    text = Path(argparse.__file__).read_bytes()
    codes = torch.tensor([b % LETTERS for b in text])
    while True:
        at = torch.randint(len(codes) - long - 1, (12,), generator=draws)[:, None] + torch.arange(long + 1)
        yield codes[at[:, :-1]], codes[at[:, 1:]]


# -- models ---------------------------------------------------------------------------------------------------------------


def mlp(width: int, deep: int, act: Callable[[], nn.Module], norm: bool = False, out: int = 10) -> nn.Sequential:
    """``deep`` layers in all."""
    parts: list[nn.Module] = []
    for i in range(deep - 1):
        parts.append(nn.Linear(32 if i == 0 else width, width))
        parts += [nn.BatchNorm1d(width)] if norm else []
        parts.append(act())
    return nn.Sequential(*parts, nn.Linear(width, out))


def initialised(model: nn.Module, how: Callable[[Tensor], object]) -> nn.Module:
    """``how`` on every matrix, biases to 0."""
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Conv2d):
            how(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    return model


class Residual(nn.Module):
    """conv, norm, relu, conv, norm, and the input on top."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


class ResNet(nn.Module):
    """A stem, blocks, a head."""

    def __init__(self, blocks: int = 4, width: int = 16, zero: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.head = nn.Linear(width, 10)
        if zero:  # every block begins as nothing, and so does the head
            for block in self.blocks:
                nn.init.zeros_(block.norm2.weight)
            nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Block(nn.Module):
    """Attention and two linear maps; the norm before each (GPT-2), or after (the first transformers)."""

    def __init__(self, width: int, post: bool) -> None:
        super().__init__()
        self.post = post
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attend(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = (part.view(b, t, 4, w // 4).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        return self.proj(f.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, w))

    def forward(self, x: Tensor) -> Tensor:
        if self.post:
            x = self.norm1(x + self.attend(x))
            return self.norm2(x + self.down(f.gelu(self.up(x))))
        x = x + self.attend(self.norm1(x))
        return x + self.down(f.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """A character model. ``std``: of the initial weights."""

    def __init__(self, blocks: int = 4, width: int = 32, *, post: bool = False, std: float = 0.02, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(LETTERS, width), nn.Embedding(64, width)
        self.blocks = nn.Sequential(*(Block(width, post) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, LETTERS, bias=False)
        initialised(self, lambda w: nn.init.normal_(w, std=std))
        nn.init.normal_(self.embed.weight, std=std)
        nn.init.normal_(self.place.weight, std=std)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x) + self.place.weight[: x.shape[1]])))


class Lstm(nn.Module):
    """A character model."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(LETTERS, width), nn.LSTM(width, width, 2, batch_first=True)
        self.head = nn.Linear(width, LETTERS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0])


class Low(nn.Module):
    """A frozen matrix, and beside it two thin ones of which the second begins as zero (LoRA)."""

    def __init__(self, linear: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, linear.in_features) / math.sqrt(linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + x @ self.a.T @ self.b.T


class UNet(nn.Module):
    """Says the noise that was added to an image; its last layer begins as zero."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.time = nn.Linear(1, width)
        self.enter, self.down = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, 2, padding=1)
        self.middle = nn.Sequential(nn.GroupNorm(4, 2 * width), nn.SiLU(), nn.Conv2d(2 * width, 2 * width, 3, padding=1))
        self.up, self.leave = nn.ConvTranspose2d(2 * width, width, 2, 2), nn.Conv2d(2 * width, 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        high = f.silu(self.enter(x) + self.time(t)[:, :, None, None])
        low = self.down(high)
        return self.leave(torch.cat([high, f.silu(self.up(low + self.middle(low)))], 1))
