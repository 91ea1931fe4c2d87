"""What the guard must see, and what it must not."""

import math
import random
from collections.abc import Callable, Iterator

import msgspec

from sitter.rules.base import Case
from sitter.rules.cases.course import smoothed
from sitter.rules.view import Sample

NAN, INF = math.nan, math.inf


def usual(
    n: int = 200, noise: float = 0.05, *, every: int = 1, grad: bool = True, name: str = "loss",
    loss: Callable[[int, float], float] = lambda i, v: v, norm: Callable[[int, float], float] = lambda i, v: v,
) -> Callable[[], Iterator[Sample]]:  # fmt: skip
    """A loss that falls from 4 to 2 with log-normal ``noise``; ``loss`` and ``norm`` change what is logged at point ``i``."""

    def play() -> Iterator[Sample]:
        rng = random.Random(7)
        for i in range(n):
            values = {name: loss(i, (2.0 + 2.0 * math.exp(-i / 40.0)) * math.exp(rng.gauss(0.0, noise)))}
            if grad:
                values["grad_norm"] = norm(i, math.exp(rng.gauss(0.0, 0.3)))
            yield Sample(step=i * every, branch=0, time=float(i * every), values=values)

    return play


def with_val(
    val: Callable[[int, float], float], n: int = 200, noise: float = 0.05, loss: Callable[[int, float], float] = lambda i, v: v, *,
    every: int = 1,
) -> Callable[[], Iterator[Sample]]:  # fmt: skip
    """The same with a validation loss, ``val`` of the usual one, every tenth step."""

    def play() -> Iterator[Sample]:
        rng = random.Random(8)
        for sample in usual(n, noise, every=every, grad=False, loss=loss)():
            yield sample
            if sample.step % 10 == 0:
                level = (2.1 + 2.0 * math.exp(-sample.step / 40.0)) * math.exp(rng.gauss(0.0, 0.01))
                yield Sample(step=sample.step, branch=0, time=sample.time, values={"val_loss": val(sample.step, level)})

    return play


def at_rate(rate: Callable[[int], float], played: Callable[[], Iterator[Sample]]) -> Callable[[], Iterator[Sample]]:
    """The same with a scheduled rate beside each loss."""

    def play() -> Iterator[Sample]:
        for sample in played():
            if "loss" in sample.values:
                sample = msgspec.structs.replace(sample, values={**sample.values, "lr_scheduled": rate(sample.step)})
            yield sample

    return play


def higher(i: int, v: float) -> float:
    """From step 200 on it rises, to 1.6 times as high."""
    return v * (1 + 0.6 * min(1.0, max(0, i - 200) / 200))


def falling(i: int, v: float) -> float:
    """Over 150 points from 5 to 2.5, the faster the later; 3 % of noise."""
    return (5.0 - 2.5 * (i / 150) ** 3) * (v / (2.0 + 2.0 * math.exp(-i / 40.0)))


FIRES = (
    Case("one loss is nan", usual(loss=lambda i, v: NAN if i == 150 else v), says="loss is nan at step 150", acts=True),
    Case("the loss becomes inf and stays", usual(loss=lambda i, v: INF if i >= 150 else v), says="loss is inf at step 150", acts=True),
    Case("a gradient norm is nan", usual(norm=lambda i, v: NAN if i == 150 else v), says="grad_norm is nan", acts=True),
    Case("one loss of a GAN is nan", usual(name="g_loss", loss=lambda i, v: NAN if i == 150 else v), says="g_loss is nan", acts=True,
         view={"kind": "gan"}),
    Case("the loss jumps to twice its level and stays", usual(loss=lambda i, v: v * (2.0 if i >= 150 else 1.0)),
         says="its usual level", acts=True),
    Case("the same where every 100th step is logged: it is waited for, and does not come back",
         usual(every=100, loss=lambda i, v: v * (2.0 if i >= 150 else 1.0)), says="and it does not come back", acts=True),
    Case("it jumps, and falls back steadily: nothing is done",
         usual(every=100, grad=False, loss=lambda i, v: v * (1 + 1.5 * math.exp(-(i - 150) / 6) if i >= 150 else 1.0)),
         says="by itself: nothing done", acts=False),
    Case("it falls back, and jumps again",
         usual(every=100, grad=False, loss=lambda i, v: v * (1 + 1.5 * math.exp(-((i - 150) % 8) / 4) if i >= 150 else 1.0)),
         says="and it does not come back", acts=True),
    Case("it jumps and stays, and the validation loss is as usual: the data are harder",
         with_val(lambda i, v: v, n=600, every=5, loss=lambda i, v: v * (1.8 if i >= 300 else 1.0)), says="taken for usual", acts=False),
    Case("it jumps and stays, and so does the validation loss",
         with_val(lambda i, v: v * (1.2 if i >= 1500 else 1.0), n=600, every=5, loss=lambda i, v: v * (1.8 if i >= 300 else 1.0)),
         says="does not come back", acts=True),
    Case("it is waited for, and becomes nan",
         usual(every=100, grad=False, loss=lambda i, v: NAN if i >= 153 else v * (2.0 if i >= 150 else 1.0)),
         says="loss is nan at step 15,300, after", acts=True),
    Case("it falls fast, and then stands 1.9 × above where it was: the median of a window lags above",
         usual(n=250, noise=0.03, grad=False, loss=lambda i, v: falling(i, v) if i < 150 else 4.8 * falling(150, v) / 2.5),
         says="and it does not come back", acts=True),
    Case("a single loss of 50 × its level", usual(loss=lambda i, v: v * (50.0 if i == 150 else 1.0)), says="its usual level", acts=True),
    Case("from next to nothing to as much as a number can be", usual(loss=lambda i, v: 1e300 if i >= 150 else 1e-200 * v),
         says="its usual level", acts=True),
    Case("noisy, 8 sigma is out of reach: 2.2 × for 20 points", usual(noise=0.13, loss=lambda i, v: v * (2.2 if 150 <= i < 170 else 1.0)),
         says="its usual level", acts=True),
    Case("a gradient of 1,000 × its level, the loss not yet hit", usual(norm=lambda i, v: v * (1000.0 if i == 150 else 1.0)),
         says="grad_norm 1,", acts=True),
    Case("divergence within the first 20 steps", usual(n=30, loss=lambda i, v: v * (40.0 if i >= 12 else 1.0)), says="step 12", acts=True),
    Case("the loss blows up, and two points later it is nan",
         usual(grad=False, loss=lambda i, v: NAN if i >= 152 else v * (30.0 if i >= 150 else 1)),
         says="loss is nan at step 152, after", acts=True),
    Case("the validation loss is nan", with_val(lambda i, v: NAN if i >= 160 else v), says="val_loss is nan at step 160", acts=True),
    Case("both losses rise slowly, the loss too noisy for its own sake",
         with_val(lambda i, v: v * (1 + max(0, i - 200) / 400), loss=lambda i, v: v * (1 + max(0, i - 200) / 400), n=500, noise=0.12),
         says="training and validation loss", acts=True),
    Case("both rise slowly, at a rate that has never been so high",
         at_rate(lambda i: 1e-3 if i < 200 else 2e-3, with_val(higher, loss=higher, n=500, noise=0.12)),
         says="training and validation loss", acts=True),
    Case("ruin from the first steps on", usual(n=9, grad=False, loss=lambda i, v: v * (50.0 if i else 1.0)),
         says="its usual level", acts=True),
    Case("a gradient of 40 × its level, the loss as usual: seen, no more", usual(norm=lambda i, v: v * (40.0 if i == 150 else 1.0)),
         says="nothing is done: the loss is as usual", acts=False),
    Case("a gradient of 40 × its level, and a loss that is suspicious",
         usual(norm=lambda i, v: v * (40.0 if i == 150 else 1.0), loss=lambda i, v: v * (1.4 if i == 150 else 1.0)),
         says="grad_norm", acts=True),
    Case("a spike of clipped gradients is seen, no more", usual(norm=lambda i, v: v * (1000.0 if i == 150 else 1.0)),
         says="gradients are clipped", acts=False, view={"clips": True}),
    Case("one spike in a log of every 100th step is seen, no more", usual(every=100, norm=lambda i, v: v * (100.0 if i == 150 else 1.0)),
         says="a spike alone says little", acts=False),
    Case("nor do two side by side say more", usual(every=100, norm=lambda i, v: v * (100.0 if i in (150, 151) else 1.0)),
         says="a spike alone says little", acts=False),
    Case("the loss of reinforcement learning jumps by nature", usual(loss=lambda i, v: v * (5.0 if i >= 150 else 1.0)),
         says="only values that are not finite act", acts=False, view={"kind": "rl"}),
    Case("logged every 50 steps, and says how slow it is", usual(every=50), says="every 50 steps", acts=False),
)  # fmt: skip

QUIET = (
    Case("a run like any other", usual(n=2000)),
    Case("a noisy one", usual(n=2000, noise=0.3)),
    Case("a bad batch: + 45 % for one step, again and again", usual(n=1000, loss=lambda i, v: v * (1.45 if i % 97 == 50 else 1.0))),
    Case("a batch of 3 × the loss", usual(loss=lambda i, v: v * (3.0 if i == 150 else 1.0))),
    Case("a restart of the rate: + 20 %, and it settles", usual(n=600, loss=lambda i, v: v * (1 + 0.2 * math.exp(-max(0, i - 300) / 30)
         if i >= 300 else v / v))),
    Case("a sudden improvement is no fault", usual(loss=lambda i, v: v * (0.2 if i >= 150 else 1.0))),
    Case("rounded to two decimals: 0.01, 0.03, 0.02", usual(n=2000, noise=0.15, loss=lambda i, v: round(v / 150, 2), grad=False)),
    Case("a full-batch loss without noise", usual(noise=0.0, grad=False)),
    Case("never finite: it has not started", usual(loss=lambda i, v: NAN, grad=False)),
    Case("a loss around zero and below", usual(n=400, loss=lambda i, v: v - 3.0, grad=False)),
    Case("both rise slowly, since the schedule has raised the rate to where it was before",
         at_rate(lambda i: 1e-2 if i < 50 or i >= 200 else 1e-3, with_val(higher, loss=higher, n=900, noise=0.12))),
    Case("the data become harder: the training loss jumps and settles, the validation loss follows slowly",
         with_val(lambda i, v: v * (1 + 0.6 * min(1.0, max(0, i - 200) / 300)), n=800, noise=0.25,
                  loss=lambda i, v: v * (1.5 if i >= 200 else 1.0))),
    Case("smoothed, with a bad batch now and then", usual(n=3000, noise=0.2, grad=False, loss=smoothed())),
    Case("overfitting: the validation loss rises alone", with_val(lambda i, v: v * (1 + i / 300), n=600)),
    Case("gradients with long tails", usual(n=2000, norm=lambda i, v: v * (4.0 if i % 50 == 7 else 1.0))),
)  # fmt: skip
