"""Whatever the user logs, as a float: converted before anything is locked, since a foreign ``__float__`` may itself
log."""

from collections.abc import Mapping
from typing import Any

from sitter_agent.handlers import raised_by_handler


def as_float(value: Any) -> float:
    """A number, a numpy scalar, a tensor or array of one element, as a float. Raises whatever the conversion raises,
    and TypeError for what is not a number (a string that happens to read as one is a mistake, not a value)."""
    if isinstance(value, (int, float)):
        return float(value)
    item = getattr(value, "item", None)
    if item is not None:
        value = item()
        if isinstance(value, (int, float)):
            return float(value)
    if not hasattr(type(value), "__float__") and not hasattr(type(value), "__index__"):
        raise TypeError(f"{type(value).__name__} is not a number")
    return float(value)


def as_floats(values: Mapping[Any, object]) -> tuple[dict[str, float], list[tuple[str, Exception]]]:
    """The values that are numbers, and the names of those that are not with the reason."""
    kept: dict[str, float] = {}
    refused: list[tuple[str, Exception]] = []
    for name, value in values.items():
        try:
            kept[name if type(name) is str else str(name)] = as_float(value)
        except Exception as e:  # the user's objects may raise anything
            if raised_by_handler(e):
                raise
            refused.append((str(name), e))
    return kept, refused
