"""A CSV with ``step`` and any of ``train_loss``/``loss``, ``val_loss``, ``lr``, ``grad_norm``, and whatever else was logged."""

import csv
import datetime
import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sitter.errors import UsageError
from sitter.replay.story import Item, Story
from sitter.rules.view import Sample
from sitter_wire.aliases import ALIASES

if TYPE_CHECKING:
    from _csv import Reader

TIMES = ("time", "wall_s", "train_time_s")
"""Columns that may hold the time: seconds, or ISO 8601 as ``sitter export`` writes it."""
STEP_S = 1.0
"""Without times a step is taken for a second: budgets are by the hour, and something must pass."""


STEPS = ("step", "Step", "_step", "global_step", "trainer/global_step")
"""What the column of steps may be called: also as W&B, TensorBoard and Lightning export it."""
NUMBERS = ("loss", "val_loss", "lr", "lr_scheduled", "grad_norm")
"""Signals that the rules know: what stands there must be a number. Another column that holds texts is left out."""


def from_csv(path: Path, say: Callable[[str], None] = lambda text: None) -> Story:
    """A file, or a pipe; gzip as well; separated by commas, semicolons or tabs. ``say`` is told what was left out, or taken for something.

    Raises UsageError: it cannot be read, no ``step``, nothing beside it; while it is told, a line that is not numbers."""
    try:
        lines = _lines(path)
        first = next(lines, "")
        comma = next((c for c in ",;\t" if c in first), ",")
        header = [name.strip() for name in next(csv.reader([first], delimiter=comma), [])]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"cannot read {path}: {e}") from e
    step = next((name for name in STEPS if name in header), None)
    if step is None:
        raise UsageError(f"{path} has no column `step`; found: {', '.join(header) or 'nothing'}")
    columns = _Columns(header, step)
    if not columns.values:
        raise UsageError(f"{path} has nothing beside `step`: expected any of train_loss, val_loss, lr, grad_norm")
    return Story(name=path.name, items=_items(path, csv.reader(lines, delimiter=comma), columns, say), timed=columns.time is not None)


def _lines(path: Path) -> Iterator[str]:
    """Opened once, since a pipe cannot be opened twice, and closed with the last line, or when nobody asks for more."""
    with path.open("rb") as raw:
        unpacked = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
        with io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
            yield from text


class _Columns:
    """Where what stands. Names as they would have been recorded; a rate is both the scheduled and the effective one."""

    def __init__(self, header: list[str], step: str) -> None:
        self._header = header
        self.step = header.index(step)
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

    def without_texts(self, row: list[str], say: Callable[[str], None]) -> tuple[int, dict[str, float]] | None:
        """The step and the values of a row that was not all numbers; None where it is really wrong. Blanks are nothing, and a column of
        texts that no rule of ours knows is left out from here on."""
        if len(row) <= max(self.step, self.time or 0, *(i for i, _ in self.values)):
            return None
        logged: dict[str, float] = {}
        for i, name in list(self.values):
            try:
                if text := row[i].strip():
                    logged[name] = float(text)
            except ValueError:
                if name in NUMBERS:
                    return None
                self.values.remove((i, name))
                say(f"column {self._header[i]} holds no numbers ({_shown(row[i : i + 1])}): it is left out")
        try:
            _seconds("0" if self.time is None else row[self.time])
            return int(float(row[self.step])), logged
        except (ValueError, OverflowError):
            return None


def _items(path: Path, reader: "Reader", columns: _Columns, say: Callable[[str], None]) -> Iterator[Item]:
    branch = last = back = 0
    shift = 0.0
    at_step, at_time, at_branch = columns.step, columns.time, columns.branch
    for row in _rows(path, reader):
        try:
            text = row[at_step]
            step = int(text) if text.isdigit() else int(float(text))
            logged = {name: float(row[i]) for i, name in columns.values if row[i]}
            time = step * STEP_S if at_time is None else _seconds(row[at_time])
            if at_branch is not None:
                branch = int(row[at_branch])
        except (ValueError, IndexError, OverflowError) as e:
            again = columns.without_texts(row, say)
            if again is None:
                wanted = "expected numbers, or nothing where nothing was logged"
                raise UsageError(f"{path}, line {reader.line_num + 1}: {wanted}; found {_shown(row)} ({e})") from e
            step, logged = again
            time = step * STEP_S if at_time is None else _seconds(row[at_time])
        if step < last and at_branch is None:  # it began again from an earlier step
            branch += 1
            back += 1
            shift += (last - step) * STEP_S if at_time is None else 0.0
        last = step
        if logged:
            yield Sample(step=step, branch=branch, time=time + shift, values=logged)
    if back:
        say(f"{path}: the step goes back {back:,} time{'s' if back != 1 else ''}, each taken for a run that went on from there")


def _rows(path: Path, reader: "Reader") -> Iterator[list[str]]:
    """Those that are not empty. Raises UsageError."""
    try:
        for row in reader:
            if row:
                yield row
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"cannot read {path} beyond line {reader.line_num + 1}: {e}") from e


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.datetime.fromisoformat(text).timestamp()


def _shown(row: list[str]) -> str:
    text = ",".join(row)
    return repr(text if len(text) <= 80 else text[:79] + "…")
