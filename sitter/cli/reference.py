"""``--ref``: the curves of another run, or of a CSV, to be drawn dashed beside this one."""

import csv
import math
from pathlib import Path

from sitter.cli.common import asking
from sitter.errors import RunError, UsageError
from sitter.model import Curve, Curves
from sitter.paths import find
from sitter_wire.queries import GetCurves

NAMES = {"train_loss": "loss", "loss": "loss", "val_loss": "val_loss"}
COLUMNS = 400


def reference_curves(ref: str) -> list[Curve]:
    """Raises UsageError where it is neither a run nor a CSV with ``step`` and one of ``loss``, ``train_loss``, ``val_loss``."""
    path = Path(ref)
    if path.suffix == ".csv":
        return _from_csv(path)
    try:
        found = find(ref, acts=False)
    except RunError as e:
        raise UsageError(f"--ref {ref}: expected a run or a CSV file; {e}") from e
    with asking(found) as asked:
        answer: Curves = asked.ask(GetCurves(signals=["loss", "val_loss"], columns=COLUMNS))
    return answer.curves


def _from_csv(path: Path) -> list[Curve]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"--ref {path}: cannot be read as CSV: {e}") from e
    columns = [name for name in NAMES if rows and name in rows[0]]
    if not rows or "step" not in rows[0] or not columns:
        raise UsageError(f"--ref {path}: expected columns step and one of {', '.join(NAMES)}")
    return [_curve(rows, name, path) for name in columns]


def _curve(rows: list[dict[str, str]], name: str, path: Path) -> Curve:
    points = []
    for number, row in enumerate(rows, start=2):
        if not row[name]:
            continue
        try:
            points.append((float(row["step"]), float(row[name])))
        except ValueError as e:
            raise UsageError(f"--ref {path}, line {number}: {e}") from e
    bucket = max(1, math.ceil(len(points) / COLUMNS))
    chunks = [points[i : i + bucket] for i in range(0, len(points), bucket)]
    finite = [[v for _, v in c if math.isfinite(v)] or [math.nan] for c in chunks]
    return Curve(
        signal=NAMES[name],
        x=[c[-1][0] for c in chunks],
        low=[min(f) for f in finite],
        high=[max(f) for f in finite],
        mean=[sum(f) / len(f) for f in finite],
    )
