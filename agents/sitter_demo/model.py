"""A next-byte language model in numpy: forward, backward by hand, Adam. float32 throughout.

The last ``CONTEXT`` bytes are embedded, and two layers with a skip connection give the logits of the next byte (Bengio
et al. 2003, "A Neural Probabilistic Language Model", with GELU for tanh).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sitter_demo.text import Bytes

Floats = NDArray[np.float32]

VOCABULARY = 256
CONTEXT = 16


@dataclass(frozen=True)
class Shape:
    """Sizes. ``context`` bytes are seen, each as ``embedding`` numbers; two layers of ``hidden``."""

    context: int = CONTEXT
    embedding: int = 16
    hidden: int = 256


@dataclass(frozen=True)
class Batch:
    """``context`` (B, context) and ``target`` (B,) bytes. ``gain`` multiplies the embedded inputs."""

    context: Bytes
    target: Bytes
    gain: float = 1.0


def gelu(a: Floats) -> tuple[Floats, Floats]:
    """x·σ(1.702 x) and its derivative (Hendrycks & Gimpel 2016, the sigmoid form; σ by tanh, which cannot overflow)."""
    s = np.tanh(a * np.float32(0.851))
    s += 1
    s *= np.float32(0.5)
    out = a * s
    slope = s + np.float32(1.702) * out * (1 - s)
    return out, slope


class ByteModel:
    """All parameters are views into ``flat``, all gradients into ``grad``: optimizer and norm are one line each."""

    def __init__(self, seed: int, shape: Shape = Shape()) -> None:
        self.shape = shape
        wide = shape.context * shape.embedding
        sizes = {
            "embedding": (VOCABULARY, shape.embedding),
            "w1": (wide, shape.hidden), "b1": (shape.hidden,),
            "w2": (shape.hidden, shape.hidden), "b2": (shape.hidden,),
            "w3": (shape.hidden, VOCABULARY), "b3": (VOCABULARY,),
        }  # fmt: skip
        total = sum(math.prod(s) for s in sizes.values())
        self.flat: Floats = np.zeros(total, np.float32)
        self.grad: Floats = np.zeros(total, np.float32)
        self.parameters = _views(self.flat, sizes)
        self.gradients = _views(self.grad, sizes)
        rng = np.random.default_rng(seed)
        for name, p in self.parameters.items():
            if name.startswith("w"):
                gain = 0.1 if name == "w3" else 1.5  # a first guess near uniform: the loss starts at log 256 = 5.55
                p[...] = rng.normal(0, gain / math.sqrt(p.shape[0]), p.shape)
            elif name == "embedding":
                p[...] = rng.normal(0, 1, p.shape)

    def loss(self, batch: Batch) -> float:
        """Mean cross-entropy in nats per byte; no gradients."""
        logits = self._forward(batch)[-1]
        return float(-np.mean(_log_softmax(logits)[np.arange(len(batch.target)), batch.target]))

    def loss_and_grad(self, batch: Batch) -> tuple[float, float]:
        """(loss, norm of the gradient); the gradient itself is left in ``grad``."""
        p, g = self.parameters, self.gradients
        rows = np.arange(len(batch.target))
        x, h1, slope1, h2, slope2, logits = self._forward(batch)
        log_probability = _log_softmax(logits)
        loss = float(-np.mean(log_probability[rows, batch.target]))

        d_logits = np.exp(log_probability)
        d_logits[rows, batch.target] -= 1
        d_logits /= len(rows)
        np.matmul(h2.T, d_logits, out=g["w3"])
        np.sum(d_logits, axis=0, out=g["b3"])
        d_h2: Floats = d_logits @ p["w3"].T
        d_a2: Floats = d_h2 * slope2
        np.matmul(h1.T, d_a2, out=g["w2"])
        np.sum(d_a2, axis=0, out=g["b2"])
        d_a1: Floats = (d_h2 + d_a2 @ p["w2"].T) * slope1
        np.matmul(x.T, d_a1, out=g["w1"])
        np.sum(d_a1, axis=0, out=g["b1"])
        d_x: Floats = (d_a1 @ p["w1"].T) * np.float32(batch.gain)
        _scatter_sum(batch.context.ravel(), d_x.reshape(-1, self.shape.embedding), g["embedding"])
        return loss, float(np.sqrt(np.dot(self.grad, self.grad)))

    def _forward(self, batch: Batch) -> tuple[Floats, ...]:
        p = self.parameters
        x: Floats = p["embedding"][batch.context].reshape(len(batch.context), -1) * np.float32(batch.gain)
        h1, slope1 = gelu(x @ p["w1"] + p["b1"])
        inner, slope2 = gelu(h1 @ p["w2"] + p["b2"])
        h2: Floats = h1 + inner
        logits: Floats = h2 @ p["w3"] + p["b3"]
        return x, h1, slope1, h2, slope2, logits


class Adam:
    """Adam (Kingma & Ba 2015). ``rate`` is the base rate, which a linear warm-up and a cosine to a tenth multiply."""

    def __init__(self, model: ByteModel, *, rate: float, total: int, warmup: int) -> None:
        self.model = model
        self.rate = rate
        self.total, self.warmup = total, warmup
        self.steps = 0
        self.mean: Floats = np.zeros_like(model.flat)
        self.square: Floats = np.zeros_like(model.flat)
        self._scratch: Floats = np.empty_like(model.flat)

    def schedule(self, step: int) -> float:
        """What the base rate is multiplied with at ``step``, in [0, 1]."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        return 0.1 + 0.45 * (1 + math.cos(math.pi * done))

    @property
    def effective_rate(self) -> float:
        """The rate of the next step."""
        return self.rate * self.schedule(self.steps)

    def step(self) -> None:
        """One update from the model's present gradient, in place."""
        g, s = self.model.grad, self._scratch
        rate = self.effective_rate
        self.steps += 1
        self.mean *= 0.9
        np.multiply(g, 0.1, out=s)
        self.mean += s
        self.square *= 0.98
        np.multiply(g, g, out=s)
        s *= 0.02
        self.square += s
        np.sqrt(self.square, out=s)
        s += np.float32(1e-8 * math.sqrt(1 - 0.98**self.steps))
        np.divide(self.mean, s, out=s)
        s *= np.float32(rate * math.sqrt(1 - 0.98**self.steps) / (1 - 0.9**self.steps))
        self.model.flat -= s


class Windows:
    """Batches of random windows of a text, without end. Its position can be saved and put back (``state_dict``)."""

    def __init__(self, text: Bytes, *, context: int, size: int, seed: int) -> None:
        self.text, self._context, self._size = text, context, size
        self._rng = np.random.default_rng(seed)
        self._offsets = np.arange(context)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.draw()

    def draw(self) -> Batch:
        """The next batch."""
        start = self._rng.integers(0, len(self.text) - self._context, self._size)
        return Batch(self.text[start[:, None] + self._offsets], self.text[start + self._context])

    def state_dict(self) -> dict[str, Any]:
        """Where the random draw stands."""
        return {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._rng.bit_generator.state = state["rng"]


def _views(flat: Floats, sizes: dict[str, tuple[int, ...]]) -> dict[str, Floats]:
    views, at = {}, 0
    for name, size in sizes.items():
        n = math.prod(size)
        views[name] = flat[at : at + n].reshape(size)
        at += n
    return views


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    out: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return out


def _scatter_sum(index: Bytes, rows: Floats, out: Floats) -> None:
    """``out[i] = sum of rows where index == i``; by sorting, which is 20 × faster than ``np.add.at``."""
    order = np.argsort(index, kind="stable")
    present, first = np.unique(index[order], return_index=True)
    out[...] = 0
    out[present] = np.add.reduceat(rows[order], first, axis=0)
