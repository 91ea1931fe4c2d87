"""What is to follow a change of a knob by a rule of your own: ``warmup``, ``back_after``."""

from collections.abc import Sequence
from typing import Protocol

from sitter.model import Afterwards, Proposable
from sitter.rules.own.expression import ExpressionError
from sitter_wire.commands import SetKnob


def steps_of(name: str, text: str) -> int:
    """``200 steps``; 0 for nothing. Raises ExpressionError: what ``name`` is not."""
    words = text.replace(",", "").split()
    if not words:
        return 0
    if len(words) == 2 and words[1] in ("step", "steps") and words[0].isdigit() and 0 < int(words[0]) <= 10**12:
        return int(words[0])
    raise ExpressionError(f"{name} = {text!r}: expected steps, such as '200 steps'", name)


class Following(Protocol):
    """The parameters of a rule that may say so."""

    @property
    def do(self) -> str | list[str]:
        """What it proposes."""

    @property
    def warmup(self) -> str:
        """Such as ``200 steps``."""

    @property
    def back_after(self) -> str:
        """Such as ``2000 steps``."""


def afterwards(params: Following, actions: Sequence[Proposable]) -> Afterwards | None:
    """None: nothing. Raises ExpressionError: what is no number of steps, or follows nothing."""
    follows = Afterwards(warmup=steps_of("warmup", params.warmup), back_after=steps_of("back_after", params.back_after))
    if follows == Afterwards():
        return None
    if not any(isinstance(action, SetKnob) for action in actions):
        name = "warmup" if follows.warmup else "back_after"
        raise ExpressionError(f"{name}: expected beside a change of a knob, such as do = 'lr=0.5x'; found do = {params.do!r}", name)
    return follows
