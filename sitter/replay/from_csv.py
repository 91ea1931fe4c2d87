"""A CSV, or JSON told as one (see ``table``), with ``step`` and any of ``train_loss``/``loss``, ``val_loss``, ``lr``, ``grad_norm``, and
whatever else was logged."""

import csv
import datetime
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sitter.errors import UsageError
from sitter.replay.headings import NUMBERS, Headings, headings
from sitter.replay.story import Item, Story
from sitter.replay.table import Lines
from sitter.rules.view import Sample

if TYPE_CHECKING:
    from _csv import Reader

STEP_S = 1.0
"""Without times a step is taken for a second: budgets are by the hour, and something must pass."""
MISSING = frozenset({"null", "none", "na", "n/a", "-", "--", "."})
"""How others write that nothing was logged, in any case."""
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")


def from_csv(path: Path, say: Callable[[str], None] = lambda text: None) -> Story:
    """A file, or a pipe; gzip as well; separated by commas, semicolons or tabs; or JSON (see ``table``). ``say`` is told what was left out,
    or taken for something.

    Raises UsageError: it cannot be read, no ``step``, nothing beside it; while it is told, a line that is not numbers."""
    try:
        file = Lines(path)
        told = iter(file)
        first = next(told, "")
        comma = next((c for c in ",;\t" if c in first), ",")
        header = [name.strip() for name in next(csv.reader([first], delimiter=comma), [])]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"cannot read {path}: {e}") from e
    columns = _Columns(headings(header, str(path)), header, comma, file.above + 1)
    for text in columns.said:
        say(f"{path.name}: {text}")
    return Story(name=path.name, items=_items(path, csv.reader(told, delimiter=comma), columns, say), timed=columns.time is not None)


class _Columns:
    """Where what stands. Names as they would have been recorded. ``line``: of the file, on which the headings stand."""

    def __init__(self, found: Headings, header: list[str], comma: str, line: int) -> None:
        self._header, self._comma, self.line = header, comma, line
        self.step, self.branch, self.time, self.values, self.said = found

    def without_texts(self, row: list[str], say: Callable[[str], None]) -> tuple[int, int | None, dict[str, float]] | None:
        """The step, the branch and the values of a row that was not all numbers; None where it is really wrong. Blanks are nothing, and a
        column of texts that no rule of ours knows is left out from here on."""
        if len(row) <= max(self.step, self.time or 0, self.branch or 0, *(i for i, _ in self.values)):
            return None
        logged: dict[str, float] = {}
        for i, name in list(self.values):
            try:
                if (value := self._number(row[i].strip())) is not None:
                    logged[name] = value
            except ValueError:
                if name in NUMBERS:
                    return None
                self.values.remove((i, name))
                say(f"column {self._header[i]} holds no numbers ({_shown(row[i : i + 1])}): it is left out")
        try:
            _seconds("0" if self.time is None else row[self.time])
            step = row[self.step].strip()
            whole = int(float(step.replace(",", "") if _GROUPED.fullmatch(step) else step))
            return whole, None if self.branch is None else int(row[self.branch]), logged
        except (ValueError, OverflowError):
            return None

    def _number(self, text: str) -> float | None:
        """Where commas do not stand between the columns they may stand in a number. Raises ValueError."""
        if not text or text.lower() in MISSING:
            return None
        return float(text if self._comma == "," else text.replace(",", "."))


def _items(path: Path, reader: "Reader", columns: _Columns, say: Callable[[str], None]) -> Iterator[Item]:
    branch = last = back = 0
    shift = 0.0
    at_step, at_time, at_branch = columns.step, columns.time, columns.branch
    for row in _rows(path, reader, columns.line):
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
                raise UsageError(f"{path}, line {reader.line_num + columns.line}: {wanted}; found {_shown(row)} ({e})") from e
            step, its_branch, logged = again
            branch = branch if its_branch is None else its_branch
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


def _rows(path: Path, reader: "Reader", line: int) -> Iterator[list[str]]:
    """Those that are neither empty nor a remark. Raises UsageError."""
    try:
        for row in reader:
            if row and not row[0].startswith("#"):
                yield row
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"cannot read {path} beyond line {reader.line_num + line}: {e}") from e


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.datetime.fromisoformat(text).timestamp()


def _shown(row: list[str]) -> str:
    text = ",".join(row)
    return repr(text if len(text) <= 80 else text[:79] + "…")
