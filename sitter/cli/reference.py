"""``--ref``: the curves of another run, or of a file of numbers, to be drawn dashed beside this one."""

import math
from pathlib import Path

from sitter.cli.common import asking
from sitter.errors import RunError, UsageError
from sitter.model import Curve, Curves
from sitter.paths import find
from sitter_wire.queries import GetCurves

SIGNALS = ("loss", "val_loss")
COLUMNS = 400


def reference_curves(ref: str) -> list[Curve]:
    """Raises UsageError where it is neither a run nor a file as ``sitter replay`` reads it, with a loss or a validation loss."""
    path = Path(ref)
    if path.suffix == ".csv" or (path.exists() and not path.is_dir()):
        return _from_file(path)
    try:
        found = find(ref, acts=False)
    except RunError as e:
        raise UsageError(f"--ref {ref}: expected a run or a file of numbers; {e}") from e
    with asking(found) as asked:
        answer: Curves = asked.ask(GetCurves(signals=list(SIGNALS), columns=COLUMNS))
    return answer.curves


def _from_file(path: Path) -> list[Curve]:
    # Here, since the screen is to open quickly: whoever names no file needs nothing of the rules.
    from sitter.replay.from_csv import from_csv
    from sitter.rules.view import Sample

    points: dict[str, list[tuple[float, float]]] = {name: [] for name in SIGNALS}
    try:
        for item in from_csv(path).items:
            if isinstance(item, Sample):
                for name in item.values.keys() & points.keys():
                    points[name].append((float(item.step), item.values[name]))
    except UsageError as e:
        raise UsageError(f"--ref: {e}") from e
    if not any(points.values()):
        raise UsageError(f"--ref {path}: expected a loss or a validation loss in it, found neither")
    return [_curve(name, found) for name, found in points.items() if found]


def _curve(name: str, points: list[tuple[float, float]]) -> Curve:
    bucket = max(1, math.ceil(len(points) / COLUMNS))
    chunks = [points[i : i + bucket] for i in range(0, len(points), bucket)]
    finite = [[v for _, v in c if math.isfinite(v)] or [math.nan] for c in chunks]
    return Curve(
        signal=name,
        x=[c[-1][0] for c in chunks],
        low=[min(f) for f in finite],
        high=[max(f) for f in finite],
        mean=[sum(f) / len(f) for f in finite],
    )
