"""What the columns of a table are: names as W&B, TensorBoard, Lightning, Keras and people write them."""

from collections.abc import Sequence
from typing import NamedTuple

from sitter.errors import UsageError
from sitter.rules.catalogue import RULES
from sitter.rules.guard_signs import is_training_loss
from sitter_wire.aliases import ALIASES
from sitter_wire.layer_names import of_layer

STEPS = (
    "step", "global_step", "trainer/global_step", "current_steps", "iteration", "iterations", "iter", "update", "updates", "epoch",
)  # fmt: skip
"""What the column of steps may be called, the best first."""
TIMES = ("time", "wall_s", "train_time_s", "wall_time", "timestamp", "runtime")
"""Columns that may hold the time: seconds, or ISO 8601 as ``sitter export`` writes it."""
NUMBERS = ("loss", "val_loss", "lr", "lr_scheduled", "grad_norm")
"""Signals that most rules go by: what stands there must be a number. Another column that holds texts is left out."""
LOOKED_AT = frozenset({*NUMBERS, *(signal for kind in RULES for signal in kind.signals or ())})
"""Names of signals that rules of ours ask for."""
OTHERS = {
    "loss": ("train/loss_step", "train_loss_step", "train/loss_epoch", "train_loss_epoch", "train_losses", "avg_loss"),
    "val_loss": ("val/loss_epoch", "val_loss_epoch", "valid/loss", "validation/loss", "test/loss", "val_losses"),
    "lr": ("learning_rate", "train/learning_rate", "train/lr", "lr/group0", "lr/pg0", "lr-adamw", "lr-adam", "lr-sgd"),
    "grad_norm": ("train/grad_norm", "gradient_norm", "grad/norm", "gnorm", "total_grad_norm"),
}
"""Names that are less sure than ``ALIASES``: one of them is taken where there is none of those, and that is said."""
RANGES = ("__MIN", "__MAX")
"""Beside each column of a chart that W&B exports."""


class Headings(NamedTuple):
    """Places in a row. ``values``: with the names that would have been recorded; a rate is both the scheduled and the effective one.
    ``said``: what was taken for something else."""

    step: int
    branch: int | None
    time: int | None
    values: list[tuple[int, str]]
    said: list[str]


def headings(header: Sequence[str], where: str) -> Headings:
    """Raises UsageError: no column of steps, nothing beside it, or more than one run."""
    names = _without_runs(header, where)
    keys = [_key(name) for name in names]
    step = next((keys.index(name) for name in STEPS if name in keys), None)
    if step is None:
        raise UsageError(f"{where} has no column `step`; found: {', '.join(header) or 'nothing'}")
    said = [] if keys[step].startswith(("step", "global", "trainer")) else [f"column {header[step]} is taken for the step"]
    time = next((keys.index(name) for name in TIMES if name in keys), None)
    branch = keys.index("branch") if "branch" in keys else None
    used = (step, branch, time)
    mine = [i for i, name in enumerate(names) if name and i not in used and not (keys[i] == "step" and name != header[i])]
    values = _named(mine, names, keys, said)
    if not values:
        raise UsageError(f"{where} has nothing beside `{header[step]}`: expected any of train_loss, val_loss, lr, grad_norm")
    found = [name for _, name in values]
    if not any(name in LOOKED_AT or is_training_loss(name) or of_layer(name) for name in found):
        known = ", ".join(name for name in NUMBERS if name != "lr_scheduled")
        said.append(f"none of its columns is one that sitter's own rules know, such as {known}: found {', '.join(found)}")
    return Headings(step, branch, time, values, said)


def _key(name: str) -> str:
    return "_".join(name.lower().split()).lstrip("_")


def _without_runs(header: Sequence[str], where: str) -> list[str]:
    """``happy-lion-7 - train/loss`` without the run's name; what is to be left out is empty."""
    if not any(name.endswith(RANGES) for name in header):
        return list(header)
    names, runs = [], set()
    for name in header:
        run, dash, signal = name.rpartition(" - ")
        runs |= {run} if dash else set()
        ranged = name.endswith(RANGES) and name.rpartition("__")[0] in header
        names.append("" if ranged else signal if dash else name)
    if len(runs) > 1:
        raise UsageError(f"{where} holds {len(runs)} runs ({', '.join(sorted(runs))}): keep the columns of one of them")
    return names


def _named(mine: Sequence[int], names: Sequence[str], keys: Sequence[str], said: list[str]) -> list[tuple[int, str]]:
    if len(mine) == 1 and keys[mine[0]] == "value":  # TensorBoard writes a file for each signal, and not which
        said.append(f"column {names[mine[0]]} is taken for the loss: call it by its name if it is another signal")
        return [(mine[0], "loss")]
    taken = {names[i] for i in mine}
    chosen: dict[int, str] = {}
    for i in mine:
        if names[i] in chosen.values():
            said.append(f"column {names[i]} stands in it more than once: the first is taken")
            continue
        recorded = ALIASES.get(names[i]) or ALIASES.get(keys[i]) or (keys[i] if keys[i] in NUMBERS else names[i])
        chosen[i] = names[i] if recorded != names[i] and recorded in taken else recorded
        taken.add(chosen[i])
    for signal, others in OTHERS.items():
        fits = [i for other in others for i in mine if keys[i] == other]
        if fits and signal not in taken:
            chosen[fits[0]] = signal
            said.append(f"column {names[fits[0]]} is taken for {signal}")
    values = []
    for i, name in chosen.items():
        values.append((i, name))
        if name == "lr" and "lr_scheduled" not in taken:
            values.append((i, "lr_scheduled"))
    return values
