"""What several rules propose. Nothing where it is of the past, or where the agent cannot do it."""

from sitter.model import Proposable
from sitter.rules.view import RunView
from sitter_wire.commands import Rollback, SetKnob


def lower_rate(view: RunView, factor: float) -> list[Proposable]:
    """The rate times ``factor``."""
    if view.late or "lr" not in view.scales:
        return []
    return [SetKnob(knob="lr", op="scale", amount=float(factor))]


def go_back(view: RunView, before: int, factor: float, why: str) -> list[Proposable]:
    """To a state from before that step, and on from there with the rate times ``factor``, where that can be set."""
    if view.late:
        return []
    return [Rollback(before=before, also_scale={"lr": float(factor)} if "lr" in view.scales else {}, why=why)]
