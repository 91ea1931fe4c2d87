"""The troubles that the demo's training script makes for itself. Nobody else knows of them."""

import re
from dataclasses import dataclass, replace

from sitter_demo.model import Adam, Batch

RATE_FACTOR = 100.0


@dataclass
class Plants:
    """Troubles by TURN of the loop, not by step: a turn never comes twice, so going back does not plant them again.

    ``nan``: (first turn, how many) batches whose inputs are NaN, as from a worker that read a broken shard.
    ``rate``: the turn at which somebody multiplies the optimizer's base rate by 100.
    """

    nan: tuple[int, int] | None = None
    rate: int | None = None
    turn: int = -1

    @classmethod
    def parse(cls, text: str) -> "Plants":
        """``nan@STEP:LEN,lr@STEP``, either or both, or nothing. Raises ValueError."""
        plants = cls()
        for item in filter(None, text.split(",")):
            if m := re.fullmatch(r"nan@(\d+):(\d+)", item):
                plants.nan = (int(m[1]), int(m[2]))
            elif m := re.fullmatch(r"lr@(\d+)", item):
                plants.rate = int(m[1])
            else:
                raise ValueError(f"plant {item!r}: expected nan@STEP:LEN or lr@STEP, for example nan@900:3,lr@500")
        return plants

    def spoil(self, batch: Batch, optimizer: Adam) -> Batch:
        """Once per turn of the loop, before its step: the batch as it comes, with whatever was planted here."""
        self.turn += 1
        if self.turn == self.rate:
            optimizer.rate *= RATE_FACTOR
        if self.nan is not None and 0 <= self.turn - self.nan[0] < self.nan[1]:
            return replace(batch, gain=float("nan"))
        return batch
