"""The troubles that the demo's training script makes for itself. Nobody else knows of them."""

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

from sitter_demo.model import Adam, Batch, Floats

RATE_FACTOR = 100.0
SPIKE_GAIN = 100.0
GRADIENT_FACTOR = 1e4
PLANTS = re.compile(r"(?P<kind>nan|spike|grad)@(?P<at>\d+|told):(?P<turns>\d+)|(?P<rate>lr)@(?P<rate_at>\d+|told)")
BY_NOBODY = {
    "nan": "the inputs of {turns} were made NaN, as from a broken shard",
    "spike": f"the inputs of {{turns}} were made {SPIKE_GAIN:.0f} × too large",
    "grad": f"the gradients of {{turns}} were made {GRADIENT_FACTOR:,.0f} × too large",
    "lr": f"the script multiplied its learning rate by {RATE_FACTOR:.0f}",
}


@dataclass
class Plants:
    """Troubles by TURN of the loop, not by step: a turn never comes twice, so going back does not plant them again.

    ``nan``, ``spike``, ``grad``: (first turn, how many); batches whose inputs are NaN, as from a worker that read a broken shard, or much
    too large; gradients that are. ``rate``: the turn at which somebody multiplies the optimizer's base rate by 100. A turn of None is the
    one at which ``drill.go`` is found in ``place``, the run directory (``sitter_wire.drill``).
    """

    nan: tuple[int | None, int] | None = None
    spike: tuple[int | None, int] | None = None
    grad: tuple[int | None, int] | None = None
    rate: int | None = None
    rate_when_told: bool = False
    turn: int = -1
    place: Path | None = None
    told: int | None = None
    """The turn at which it was."""

    @classmethod
    def parse(cls, text: str) -> "Plants":
        """``nan@STEP:LEN,spike@STEP:LEN,grad@STEP:LEN,lr@STEP``, any of them, or nothing; STEP may be ``told``. Raises ValueError."""
        plants = cls()
        for item in filter(None, text.split(",")):
            m = PLANTS.fullmatch(item)
            if m is None:
                raise ValueError(
                    f"plant {item!r}: expected nan@STEP:LEN, spike@STEP:LEN, grad@STEP:LEN or lr@STEP, for example nan@900:3,lr@500"
                )
            if m["rate"]:
                plants.rate_when_told = m["rate_at"] == "told"
                plants.rate = None if plants.rate_when_told else int(m["rate_at"])
            else:
                setattr(plants, m["kind"], (None if m["at"] == "told" else int(m["at"]), int(m["turns"])))
        return plants

    def spoil(self, batch: Batch, optimizer: Adam, step: int | None = None) -> Batch:
        """Once per turn of the loop, before its step: the batch as it comes, with whatever was planted here."""
        self.turn += 1
        self._listen(step)
        if self.turn == (self.told if self.rate_when_told else self.rate):
            optimizer.rate *= RATE_FACTOR
        if self._now(self.nan):
            return replace(batch, gain=float("nan"))
        return replace(batch, gain=SPIKE_GAIN) if self._now(self.spike) else batch

    def explode(self, gradient: Floats) -> float:
        """Once per turn, after the backward pass: what the gradient was multiplied by, in place."""
        if not self._now(self.grad):
            return 1.0
        gradient *= GRADIENT_FACTOR
        return GRADIENT_FACTOR

    def _now(self, plant: tuple[int | None, int] | None) -> bool:
        if plant is None:
            return False
        first = self.told if plant[0] is None else plant[0]
        return first is not None and 0 <= self.turn - first < plant[1]

    def _listen(self, step: int | None) -> None:
        """Is it to happen now?"""
        waits = {"nan": self.nan, "spike": self.spike, "grad": self.grad, "lr": (None, 1) if self.rate_when_told else None}
        kind, plant = next(((k, p) for k, p in waits.items() if p is not None and p[0] is None), ("", None))
        if self.told is not None or plant is None or self.place is None:
            return
        from sitter_wire import drill  # without the agent nothing of it is loaded

        if not (self.place / drill.GO).exists():
            return
        if drill.told(self.place, drill.PLANTED) is not None:
            self.place = None  # before this process was started again
            return
        self.told = self.turn
        drill.tell(self.place, drill.PLANTED, step=step, at=time.time(), what=BY_NOBODY[kind].format(turns=_turns(kind, plant[1])))


def _turns(kind: str, n: int) -> str:
    what = ("step", "steps") if kind == "grad" else ("batch", "batches")
    return f"{n} {what[n != 1]}"
