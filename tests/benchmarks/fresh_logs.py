"""The runs of ``fresh_runs.py`` as other logs would have them. Each takes rows and returns rows; a row remembers the step it is from."""

import math
import random
from collections.abc import Callable

Row = dict[str, float]
TRUE = "true step"
"""Where a row comes from, whatever its ``step`` says; it is not written."""


def without(*names: str) -> Callable[[list[Row]], list[Row]]:
    """These columns were never logged."""

    def change(rows: list[Row]) -> list[Row]:
        kept = [{k: v for k, v in row.items() if k not in names} for row in rows]
        return [row for row in kept if len(row) > 2]

    return change


def losses(change: Callable[[float], float]) -> Callable[[list[Row]], list[Row]]:
    """Each loss otherwise."""

    def changed(rows: list[Row]) -> list[Row]:
        return [{k: change(v) if k.endswith("loss") else v for k, v in row.items()} for row in rows]

    return changed


def rounded(value: float) -> float:
    """To two decimals."""
    return round(value, 2) if math.isfinite(value) else value


def digits(value: float) -> float:
    """To three digits."""
    return float(f"{value:.3g}")


def smoothed(rows: list[Row]) -> list[Row]:
    """An exponential mean, as many programs print it."""
    mean: float | None = None
    new = []
    for row in rows:
        if "train_loss" in row:
            mean = row["train_loss"] if mean is None else 0.9 * mean + 0.1 * row["train_loss"]
            row = {**row, "train_loss": mean}
        new.append(row)
    return new


def every(n: int, mean: bool) -> Callable[[list[Row]], list[Row]]:
    """Only each ``n``-th point, or the mean of ``n``."""

    def change(rows: list[Row]) -> list[Row]:
        new, losses, count = [], [], 0
        for row in rows:
            other = {k: v for k, v in row.items() if k in ("step", TRUE, "val_loss")}
            if "train_loss" in row:
                losses.append(row["train_loss"])
                count += 1
                if count % n == 0:
                    other = {**row, "train_loss": sum(losses) / n if mean else row["train_loss"]}
                    losses = []
            if len(other) > 2:
                new.append(other)
        return new

    return change


def thirty(rows: list[Row]) -> list[Row]:
    """Thirty points in all."""
    logged = [row for row in rows if "train_loss" in row]
    return logged[:: max(1, len(logged) // 30)]


def doubled(rows: list[Row]) -> list[Row]:
    """Every row twice."""
    return [row for row in rows for _ in range(2)]


def disordered(rows: list[Row]) -> list[Row]:
    """One in twenty comes before the one it should follow."""
    rng, new = random.Random(5), list(rows)
    for i in range(len(new) - 1):
        if rng.random() < 0.05:
            new[i], new[i + 1] = new[i + 1], new[i]
    return new


def restarted(rows: list[Row]) -> list[Row]:
    """Killed twice; each time it went on from a checkpoint some way before, and the log with it."""
    new, n = [], len(rows)
    for start, end in ((0, 0.4), (0.35, 0.7), (0.6, 1.0)):
        new += rows[int(start * n) : int(end * n)]
    return new


def parts(rows: list[Row]) -> list[Row]:
    """Training and validation loss in rows of their own, as one logger after the other writes them."""
    new = []
    for row in rows:
        val = {k: v for k, v in row.items() if k in ("step", TRUE, "val_loss")}
        rest = {k: v for k, v in row.items() if k != "val_loss"}
        new += [part for part in (rest, val) if len(part) > 2]
    return new


def later(rows: list[Row]) -> list[Row]:
    """The log begins in the midst of the run, at a high step."""
    return [{**row, "step": row["step"] * 7 + 1_000_000} for row in rows[len(rows) // 4 :]]


LOGS: dict[str, Callable[[list[Row]], list[Row]]] = {
    "as it is": lambda rows: rows,
    "the training loss only": without("val_loss", "lr", "grad_norm"),
    "no rate": without("lr"),
    "no gradient norm": without("grad_norm"),
    "no validation loss": without("val_loss"),
    "the validation loss only": without("train_loss", "lr", "grad_norm", "g_loss", "d_loss", "reward", "entropy", "approx_kl"),
    "two decimals": losses(rounded),
    "three digits": losses(digits),
    "smoothed": smoothed,
    "mean of ten": every(10, mean=True),
    "every tenth point": every(10, mean=False),
    "thirty points": thirty,
    "doubled": doubled,
    "out of order": disordered,
    "started again": restarted,
    "rows apart": parts,
    "begins in the midst": later,
    "loss × 1e6": losses(lambda v: v * 1e6),
    "loss × 1e-6": losses(lambda v: v * 1e-6),
    "loss + 100": losses(lambda v: v + 100.0),
    "loss - 100": losses(lambda v: v - 100.0),
    "in bits": losses(lambda v: v / math.log(2.0)),
}
