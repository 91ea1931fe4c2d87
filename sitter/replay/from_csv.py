"""A CSV with ``step`` and any of ``train_loss``/``loss``, ``val_loss``, ``lr``, ``grad_norm``, and whatever else was logged."""

import csv
import datetime
from collections.abc import Iterator
from pathlib import Path

from sitter.errors import UsageError
from sitter.replay.story import Item, Story
from sitter.rules.view import Sample
from sitter_wire.aliases import ALIASES

TIMES = ("time", "wall_s", "train_time_s")
"""Columns that may hold the time: seconds, or ISO 8601 as ``sitter export`` writes it."""
STEP_S = 1.0
"""Without times a step is taken for a second: budgets are by the hour, and something must pass."""


def from_csv(path: Path) -> Story:
    """Raises UsageError: no such file, no ``step``, nothing beside it; while it is told, a line that is not numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"cannot read {path}: {e}") from e
    if "step" not in header:
        raise UsageError(f"{path} has no column `step`; found: {', '.join(header) or 'nothing'}")
    columns = _Columns(header)
    if not columns.values:
        raise UsageError(f"{path} has nothing beside `step`: expected any of train_loss, val_loss, lr, grad_norm")
    return Story(name=path.name, items=_items(path, columns), timed=columns.time is not None)


class _Columns:
    """Where what stands. Names as they would have been recorded; a rate is both the scheduled and the effective one."""

    def __init__(self, header: list[str]) -> None:
        self.step = header.index("step")
        self.branch = header.index("branch") if "branch" in header else None
        self.time = next((header.index(name) for name in TIMES if name in header), None)
        taken = {self.step, self.branch, self.time}
        self.values: list[tuple[int, str]] = []
        for i, name in enumerate(header):
            recorded = ALIASES.get(name, name)
            if i in taken or not name:
                continue
            self.values.append((i, name if recorded != name and recorded in header else recorded))
            if recorded == "lr" and "lr_scheduled" not in header:
                self.values.append((i, "lr_scheduled"))


def _items(path: Path, columns: _Columns) -> Iterator[Item]:
    branch = last = 0
    shift = 0.0
    at_step, at_time, at_branch, values = columns.step, columns.time, columns.branch, columns.values
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            if not row:
                continue
            try:
                text = row[at_step]
                step = int(text) if text.isdigit() else int(float(text))
                logged = {name: float(row[i]) for i, name in values if row[i]}
                time = step * STEP_S if at_time is None else _seconds(row[at_time])
                if at_branch is not None:
                    branch = int(row[at_branch])
            except (ValueError, IndexError, OverflowError) as e:
                raise UsageError(
                    f"{path}, line {reader.line_num}: expected numbers, or nothing where nothing was logged; found {_shown(row)} ({e})"
                ) from e
            if step < last and at_branch is None:  # it began again from an earlier step
                branch += 1
                shift += (last - step) * STEP_S if at_time is None else 0.0
            last = step
            if logged:
                yield Sample(step=step, branch=branch, time=time + shift, values=logged)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.datetime.fromisoformat(text).timestamp()


def _shown(row: list[str]) -> str:
    text = ",".join(row)
    return repr(text if len(text) <= 80 else text[:79] + "…")
