"""What ``fresh_runs.py`` trains: recipes drawn from a seed, the loop, the troubles, and where these show."""

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from fresh_games import GAMES
from fresh_logs import Row
from fresh_strangers import STRANGE_EXTRAS, STRANGE_GAMES, STRANGE_SCHEDULES, STRANGE_TASKS
from fresh_tasks import SUPERVISED, Task
from torch import Tensor, nn

HIGH, HEALED, CLEAR = math.log(1.35), math.log(1.2), 4.0
SLOW_STEP = {"transformer": 4, "lstm": 4, "actor": 4, "values": 2, "two players": 2, "thousand classes": 2, "variational": 2,
             "masked": 4, "one player": 2, "segments": 2}  # fmt: skip
"""So many times fewer steps, to keep it to seconds."""

EXTRAS: dict[str, float] = {
    "dropout": 0.2, "label noise": 0.15, "smoothing": 0.1, "mixup": 0.1, "accumulate": 0.1, "clip": 0.35, "bf16": 0.07, "tiny val": 0.15,
    "batch grows": 0.1, "sequence": 0.4, "sorted": 0.1, "batch norm": 0.3, "heavy": 0.4, "density": 0.5, "clipped": 0.5, "mean": 0.4,
    "harder data": 0.07, "no val": 0.2,
}  # fmt: skip
"""And how often a recipe has each. Most matter to some tasks only."""

TROUBLES = (
    "rate × 100", "rate × 100 for 20 steps", "not finite", "bad batch", "bad batches", "gradient × 1e4", "rate creeps up",
    "labels shuffled", "decay × 100", "one batch for ever", "tiny set", "rate too low", "rate too high",
)  # fmt: skip
GAME_TROUBLES = {"actor": ("rate × 100", "reward turned", "not finite"), "values": ("rate × 100", "reward turned", "not finite"),
                 "two players": ("rate × 100", "one wins", "not finite"),
                 "one player": ("rate × 100", "one wins", "not finite")}  # fmt: skip
SEVERAL = ("contrastive", "margin")
"""Tasks that need several examples in a batch."""
SLOWLY = ("tiny set", "one batch for ever", "rate too low", "rate too high")
FROM_THE_START = ("tiny set", "rate too low", "rate too high")
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda s: 1.0,
    "warm-up, cosine": lambda s: s / 0.05 if s < 0.05 else 0.5 + 0.5 * math.cos(math.pi * (s - 0.05) / 0.95),
    "warm-up, stable, decay": lambda s: min(1.0, s / 0.02, (1.0 - s) / 0.2),
    "restarts": lambda s: 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * (4 * s % 1.0))),
    "steps": lambda s: 1.0 if s < 0.5 else 0.1 if s < 0.75 else 0.01,
    "one cycle": lambda s: s / 0.3 if s < 0.3 else max(0.001, (1.0 - s) / 0.7),
    "warmed up again": lambda s: 1.0 - 1.8 * s if s < 0.5 else min(1.0, 0.1 + 6.0 * (s - 0.5)) * (1.0 - 0.9 * (s - 0.5) / 0.5),
    "linear": lambda s: max(0.001, 1.0 - s),
}


ALL_TASKS, ALL_GAMES, ALL_SCHEDULES = {**SUPERVISED, **STRANGE_TASKS}, {**GAMES, **STRANGE_GAMES}, {**SCHEDULES, **STRANGE_SCHEDULES}

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Recipe:
    """What is trained. ``at``: the step at which the trouble begins."""

    number: int
    seed: int
    task: str
    optimizer: str
    schedule: str
    rate: float
    batch: int
    steps: int
    log_every: int
    val_every: int
    extras: tuple[str, ...]
    trouble: str
    at: int


def drawn(seed: int, number: int, strange: bool = False) -> Recipe:
    """The recipe of that number; ``strange``: of the kinds in ``fresh_strangers.py``. Troubles come in turn, the rest by chance."""
    rng = random.Random(f"{seed} {number} strange" if strange else f"{seed} {number}")
    tasks, games, schedules, extras = SUPERVISED, GAMES, SCHEDULES, EXTRAS
    if strange:  # tasks of its own twice as often as those there are besides; everything else from both
        tasks, games, schedules, extras = STRANGE_TASKS, STRANGE_GAMES, ALL_SCHEDULES, {**EXTRAS, **STRANGE_EXTRAS}
    task = rng.choice([*tasks, *tasks, *games, *(SUPERVISED if strange else ())])
    points, every = rng.choice((200, 500, 1000, 2000)), rng.choice((1, 1, 1, 1, 5, 10, 50))
    steps = min(max(points * every, 400), 2500) // SLOW_STEP.get(task, 1)
    trouble = rng.choice(GAME_TROUBLES[task]) if task in ALL_GAMES else TROUBLES[number % len(TROUBLES)]
    return Recipe(
        number=number, seed=rng.randrange(1 << 30), task=task, steps=steps, trouble=trouble,
        optimizer=rng.choice(("sgd", "momentum", "momentum", "adam", "adamw", "adamw", "adafactor", "sign", "rmsprop")),
        schedule="constant" if task in ALL_GAMES else rng.choice(list(schedules)), rate=math.exp(rng.uniform(math.log(0.4), math.log(2.5))),
        batch=rng.choice((8, 16, 32, 64)) if task != "contrastive" else 64, log_every=every,
        val_every=max(every, rng.choice((50, 200, 500))), extras=tuple(e for e, often in extras.items() if rng.random() < often),
        at=0 if trouble in FROM_THE_START else int(steps * rng.uniform(0.3, 0.75)),
    )  # fmt: skip


def optimizer_of(name: str, parameters: list[nn.Parameter], adam: float, sgd: float) -> torch.optim.Optimizer:
    """At a rate that suits it."""
    if name in ("sgd", "momentum"):
        return torch.optim.SGD(parameters, lr=sgd if name == "momentum" else 5 * sgd, momentum=0.9 if name == "momentum" else 0.0)
    if name == "sign":  # momentum and a sign: what Lion does, near enough
        return torch.optim.Adam(parameters, lr=0.2 * adam, betas=(0.9, 0.9), eps=1e-12)
    if name == "adafactor":
        return torch.optim.Adafactor(parameters, lr=adam)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    return kinds[name](parameters, lr=adam if name != "rmsprop" else 0.3 * adam)


# -- training ------------------------------------------------------------------------------------------------------------


def factor(recipe: Recipe, step: int, trouble: str) -> float:
    """On the rate."""
    usual = recipe.rate * ALL_SCHEDULES[recipe.schedule](step / recipe.steps)
    since = step - recipe.at
    if trouble == "rate too low":
        return 1e-4 * usual
    if trouble == "rate too high":
        return 50.0 * recipe.rate
    if since < 0 or (trouble == "rate × 100 for 20 steps" and since >= 20):
        return usual
    if trouble.startswith("rate × 100"):
        return 100.0 * usual
    return usual * 300.0 ** (since / (recipe.steps - recipe.at)) if trouble == "rate creeps up" else usual


def train(recipe: Recipe, trouble: str) -> list[Row]:
    """What was logged. The same recipe sees the same batches, whatever the trouble."""
    torch.manual_seed(recipe.seed)
    return play(recipe, trouble) if recipe.task in ALL_GAMES else learn(recipe, trouble)


def learn(recipe: Recipe, trouble: str) -> list[Row]:
    """A supervised task."""
    extras = frozenset(recipe.extras) | ({"tiny set"} if trouble == "tiny set" else set())
    task = ALL_TASKS[recipe.task](recipe.seed, extras)
    size = 1 if "batch of one" in extras and "batch norm" not in extras and recipe.task not in SEVERAL else recipe.batch
    scale = logged_scale(extras, size)
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = optimizer_of(recipe.optimizer, parameters, task.rate, task.sgd)
    base = optimizer.param_groups[0]["lr"]
    spoil = torch.Generator().manual_seed(recipe.seed + 2)
    rows, losses = [], []
    stuck = None
    for step in range(recipe.steps):
        if step == recipe.steps // 2 and "resumed" in extras:
            optimizer = optimizer_of(recipe.optimizer, parameters, task.rate, task.sgd)
        optimizer.zero_grad()
        task.half = "curriculum" in extras and step < recipe.steps // 2
        grows = "batch grows" in extras and step > recipe.steps // 2
        turns = 4 if "accumulate" in extras else 1
        loss = 0.0
        for _ in range(turns):
            x, y = task.batch(size * (4 if grows else 1))
            if "harder data" in extras and step > 0.55 * recipe.steps and not task.text:
                x = x + 0.5 * x.std() * torch.randn(x.shape, generator=task.draws)
            since = step - recipe.at if trouble else -1
            if since >= 0:
                stuck = (x, y) if stuck is None else stuck
                x, y = broken(task, x, y, stuck, trouble, since, spoil)
            with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in extras):
                part = task.loss(x, y, step / recipe.steps) / turns
            if since >= 0 and trouble == "not finite":
                part = part * math.inf
            part.backward()
            loss += part.item()
        if trouble == "gradient × 1e4" and 0 <= since < 2:
            for p in parameters:
                p.grad = None if p.grad is None else p.grad * 1e4
        norm = float(nn.utils.clip_grad_norm_(parameters, 1.0 if "clip" in extras and trouble != "gradient × 1e4" else math.inf))
        rate = base * factor(recipe, step, trouble)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if trouble == "decay × 100" and since >= 0:
            with torch.no_grad():
                for p in parameters:
                    p.mul_(max(0.0, 1.0 - min(rate, 0.05) * 1.0))
        loss, norm = loss * scale, norm * scale
        losses.append(loss)
        row = {"step": float(step)}
        if step % recipe.log_every == 0:
            row |= {"train_loss": sum(losses) / len(losses) if "mean" in extras else loss, "lr": rate, "grad_norm": norm}
            losses = []
        if step % recipe.val_every == 0 and "no val" not in extras:
            row["val_loss"] = evaluated(task, step / recipe.steps) * scale
        if len(row) > 1:
            rows.append(row)
        optimizer.step()
    return rows


def logged_scale(extras: frozenset[str], batch: int) -> float:
    """What loss and norm are multiplied by before they are logged."""
    return (batch if "summed" in extras else 1) * (1e-6 if "tiny" in extras else 1e6 if "huge" in extras else 1.0)


def broken(task: Task, x: Tensor, y: Tensor, stuck: Batch, trouble: str, since: int, spoil: torch.Generator) -> Batch:
    """A batch under a trouble that is the data's."""
    if trouble == "labels shuffled":
        return x, y[torch.randperm(len(y), generator=spoil)] if not task.text else torch.randint(0, 128, y.shape, generator=spoil)
    if trouble == "one batch for ever":
        return stuck
    if (trouble == "bad batch" and since < 1) or (trouble == "bad batches" and since < 8):
        return task.spoilt(x), y
    return x, y


@torch.no_grad()
def evaluated(task: Task, share_done: float) -> float:
    """The validation loss, with the same random numbers each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        task.model.eval()
        loss = float(task.loss(*task.held_out, share_done))
        task.model.train()
    return loss


def play(recipe: Recipe, trouble: str) -> list[Row]:
    """A game."""
    game = ALL_GAMES[recipe.task](recipe.seed, frozenset(recipe.extras))
    rows = []
    for step in range(recipe.steps):
        now = trouble if step >= recipe.at else ""
        rate = factor(recipe, step, now)
        values = game.turn(rate, now)
        if now == "not finite":
            for p in game.model.parameters():
                p.data.fill_(math.nan)
        if step % recipe.log_every == 0:
            rows.append({"step": float(step), **values, "lr": rate * game.rate})
        if now == "not finite" and step > recipe.at + 20 * recipe.log_every:
            break  # an environment makes nothing of it
    return rows


# -- what is so, by the twin ---------------------------------------------------------------------------------------------


def losses_of(rows: list[Row]) -> list[float]:
    """The training losses."""
    return [row["train_loss"] for row in rows if "train_loss" in row]


def state(recipe: Recipe, rows: list[Row]) -> str:
    """``healthy``, ``overfit`` or ``unclear``."""
    if recipe.task in ALL_GAMES:
        return "healthy"
    losses, vals = losses_of(rows), [row["val_loss"] for row in rows if "val_loss" in row]
    if len(losses) < 20 or not all(map(math.isfinite, losses)):
        return "unclear"
    tenth = max(1, len(losses) // 10)
    means = [statistics.mean(losses[i * tenth : (i + 1) * tenth]) for i in range(10)]
    first, low, last = statistics.mean(losses[: max(1, len(losses) // 50)]), min(means), means[-1]
    harder = {"harder data", "curriculum"} & {*recipe.extras}
    if last - low > 0.15 * (first - low) + statistics.stdev(losses[-tenth:]) / math.sqrt(tenth) and not harder:
        return "unclear"
    if len(vals) >= 15:
        mids = [statistics.median(vals[i : i + 5]) for i in range(len(vals) - 4)]
        if mids[-1] - min(mids) > 0.05 * abs(min(mids)):
            return "overfit"
    return "healthy"


def shows(recipe: Recipe, twin: list[Row], rows: list[Row]) -> int | None:
    """The step from which on the trouble shows in the training loss, or at all, where it comes slowly; None: it never does."""
    if recipe.trouble in SLOWLY:
        return recipe.at if shows_slowly(recipe, twin, rows) else None
    pairs = [(int(a["step"]), a["train_loss"], b["train_loss"]) for a, b in zip(twin, rows, strict=False) if "train_loss" in a]
    usual = [math.log(a) if a > 0 else a for _, a, _ in pairs]
    noise = statistics.median(abs(b - a) for a, b in pairwise(usual)) * 1.05
    high = 0
    for i, (step, a, b) in enumerate(pairs):
        if step < recipe.at:
            continue
        if not math.isfinite(b):
            return step
        if recipe.task in ALL_GAMES or not math.isfinite(a):
            continue  # its loss has no course
        above = math.log(b / a) if a > 0 and b > 0 else b - a
        high = high + 1 if above > max(HIGH, CLEAR * noise) else 0
        if high == 3:
            return pairs[i - 2][0]
    return None


def shows_slowly(recipe: Recipe, twin: list[Row], rows: list[Row]) -> bool:
    """By what it ends with: the training loss (of a rate that is wrong, where there are points enough), else the validation loss."""
    if recipe.trouble.startswith("rate"):
        a, b = losses_of(twin), losses_of(rows)
        n = max(3, len(b) // 10)
        if recipe.trouble == "rate too low" and len(b) < 1100:
            return False
        usual, end = statistics.mean(a[-n:]), statistics.mean(b[-n:])
        return not math.isfinite(end) or end - usual > HIGH * abs(usual)
    vals = [row["val_loss"] for row in rows if "val_loss" in row and row["step"] >= recipe.at]
    if len(vals) < 12 or not all(map(math.isfinite, vals)):
        return False
    mids = [statistics.median(vals[i : i + 5]) for i in range(len(vals) - 4)]
    return mids[-1] - min(mids) > 0.15 * abs(min(mids))


def healed(twin: list[Row], rows: list[Row]) -> bool:
    """At the end it stands where its twin stands."""
    a, b = losses_of(twin), losses_of(rows)
    n = max(3, len(b) // 10)
    if len(b) < len(a) or not all(map(math.isfinite, b[-n:])):
        return False
    here, there = statistics.mean(b[-n:]), statistics.mean(a[-n:])
    return math.log(here / there) < HEALED if here > 0 and there > 0 else here - there < HEALED * max(1.0, abs(there))

