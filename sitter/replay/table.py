"""A file of numbers as lines of CSV: CSV itself, or JSON as the HF Trainer and many scripts write it; packed or not, also by a pipe."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sitter.errors import UsageError

MOST_JSON = 1 << 30
"""Characters: JSON is read whole, for only then all its columns are known."""


class Lines:
    """Of one file, to be gone through once. ``above``: how many of its lines stand before the headings, known with the first one; -1 of
    JSON, whose records have no headings above them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.above = 0

    def __iter__(self) -> Iterator[str]:
        """Opened once, since a pipe cannot be opened twice, and closed with the last line, or when nobody asks for more. Lines that begin
        with ``#`` are remarks: as empty ones. Raises OSError, EOFError, UnicodeDecodeError, UsageError."""
        with self._path.open("rb") as raw:
            unpacked = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
            with io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
                first = next(text, "")
                while first.startswith("#") or first.isspace():
                    first = next(text, "")
                    self.above += 1
                if first.lstrip()[:1] in ("{", "["):
                    self.above = -1
                    yield from _from_json(first + text.read(MOST_JSON), self._path)
                    return
                yield first
                yield from text


def _from_json(text: str, path: Path) -> Iterator[str]:
    records = _records(text, path)
    columns = list(dict.fromkeys(name for record in records for name in record))
    out = io.StringIO()
    write = csv.writer(out).writerow
    for row in (columns, *([_cell(record.get(name)) for name in columns] for record in records)):
        write(row)
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def _records(text: str, path: Path) -> list[dict[str, Any]]:
    """A list of them, one a line, or the ``log_history`` of the HF Trainer's ``trainer_state.json``."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # brackets without end
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError) as e:
            raise UsageError(f"cannot read {path} as JSON: {e}") from e
    if isinstance(found, dict):
        found = found["log_history"] if isinstance(found.get("log_history"), list) else [found]
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        like = '{"step": 10, "loss": 2.5}'
        raise UsageError(f"{path}: expected records such as {like} in a list, or one a line, or a trainer_state.json")
    return found


def _cell(value: object) -> str:
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value if isinstance(value, str) else ""
