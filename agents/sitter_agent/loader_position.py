"""Where the loader stood, in a checkpoint: what is written of it, and how another process goes on from there.

Only a loader that can tell (``state_dict`` and ``load_state_dict``) has a position that outlives its process; any other begins a pass.
"""

import sys
from dataclasses import dataclass
from typing import Any

from sitter_agent import rng
from sitter_agent.core import Core
from sitter_agent.feed import Feed, Position
from sitter_agent.handlers import raised_by_handler
from sitter_agent.say import say

Kept = dict[str, Any]
"""``passes`` begun before this one, ``taken`` batches of it; ``state``: the loader's own, or ``why_not``: why there is none."""

DEPTH = 64


@dataclass
class Waiting:
    """A position that is put back when the loader is known: ``random`` is what the process's generators were there."""

    kept: Kept
    random: dict[str, Any]


def kept(position: Position | None, *, tensors: bool) -> Kept | None:
    """What a checkpoint says of a position; None where no loader was known. ``tensors``: whether its file can hold torch's."""
    if position is None:
        return None
    found: Kept = {"passes": position.passes, "taken": position.taken}
    if position.loader_state is None:
        found["why_not"] = "it has no state_dict"
    elif strange := foreign(position.loader_state, tensors=tensors):
        found["why_not"] = f"its state holds a {strange}, expected numbers, texts and arrays in dicts and lists"
    else:
        found["state"] = position.loader_state
    return found


def foreign(value: Any, *, tensors: bool, depth: int = 0) -> str:
    """The type of the first thing in a loader's state that a checkpoint could not give back as it was; empty where there is none."""
    if value is None or type(value) in (bool, int, float, str, bytes):
        return ""
    if type(value) in (list, tuple, dict) and depth < DEPTH:
        if type(value) is dict and (odd := next((k for k in value if type(k) not in (str, int)), None)) is not None:
            return f"key of type {type(odd).__name__}"
        inner = value.values() if type(value) is dict else value
        return next((found for v in inner if (found := foreign(v, tensors=tensors, depth=depth + 1))), "")
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and type(value) is numpy.ndarray and value.dtype.kind in "biuf":
        return ""
    if tensors and torch is not None and type(value) is torch.Tensor:
        return ""
    return type(value).__name__


def position_in(feed: Feed | None, kept: Kept | None) -> tuple[Position | None, str]:
    """Where ``feed`` can be put according to a checkpoint, or None and why it cannot."""
    if feed is None:
        return None, "the loop is the script's own"
    if kept is None or "state" not in kept:
        return None, f"the checkpoint does not hold it: {kept['why_not'] if kept and 'why_not' in kept else 'no loader was known'}"
    if not feed.stateful:
        return None, "the loader has no load_state_dict"
    # Not None: a pass had begun. What it began with is in the loader's own state.
    return Position(feed, int(kept["passes"]), int(kept["taken"]), {}, [], [], kept["state"]), ""


def take_up_position(core: Core) -> None:
    """At the first turn after a resume: the loader where the checkpoint says it stood, then the random numbers of there, since beginning
    to iterate draws some. Told in one sentence either way."""
    waiting, core.loader_waits = core.loader_waits, None
    if waiting is None:
        return
    position, why_not = position_in(core.feed, waiting.kept)
    doubts: list[str] = []
    if position is not None and core.feed is not None:
        try:
            doubts = core.feed.rewind(position)
            if waiting.random:
                doubts += rng.restore(waiting.random)
        except Exception as e:  # the script's loader: its failure is told, and it begins a pass
            if raised_by_handler(e):
                raise
            why_not = f"{type(e).__name__}: {e}"
            core.feed.new_pass()
    if why_not:
        text = f"the loader's position was NOT put back ({why_not}): it begins a pass"
    else:
        text = f"the loader goes on after {waiting.kept['taken']} batches of its pass {waiting.kept['passes'] + 1}"
        text += f"; not put back: {'; '.join(doubts)}" if doubts else ""
    say(text)
    core.remark(text, "warning" if why_not or doubts else "info")
