"""Whether a loss that stands too high is coming back by itself. Seeing and acting are two things: most spikes heal."""

import math
from collections.abc import Collection
from itertools import pairwise

import msgspec

from sitter.rules.guard_signs import Sign
from sitter.rules.robust import Robust, median
from sitter.rules.wander import LAG

POINTS = 5
"""A look takes so many logged points, few enough that what is waited for leaves no mark: in trials with planted faults 20 steps of
shuffled labels healed by themselves, but not without a trace."""

SMOOTHED_POINTS = LAG
"""A look at a running mean, in which a bad batch stays for as long as it is smoothed over."""

FALLS = 0.75
"""What it stands above its usual level, on a log scale, must have come down to such a share from one look to the next."""

BEFORE = 3
"""Validation losses that must have been before, so that it is known what is usual."""

GROWS, GROWS_Z = math.log(1.25), 3.0
"""So far above the look before (and clear of the noise) it grows again: no time is to be lost."""


class Patience(msgspec.Struct):
    """With one trip. Nothing is lost by it but the steps that go back in vain: while a trip is open no snapshot is taken, and so none is
    overwritten.

    Of 135 labelled spikes in published logs that made the guard trip by a finite loss below ``loss_factor``, all but one healed by
    themselves, within 1 to 170 logged points; with patience half of them are left alone, and the three divergences among such trips are
    acted on 5 points later (tests/benchmarks/judgement.py).
    """

    usual: float
    """Where the loss stood, log scale, and …"""
    sigma: float
    """… how much it moves by itself."""
    ruin: float
    """From so far above it on (log scale) no patience is had."""
    before: float
    """The middle of the look before; at first, where it tripped. Above the usual level."""
    points: int
    """A look takes so many."""
    well: float
    """No higher is a validation loss that is as usual; -inf where there were too few."""
    is_well: bool = False
    """The newest validation loss since then was so …"""
    was_well: bool = False
    """… or the one before."""
    seen: list[float] = []

    def evaluated(self, val: float) -> None:
        """A validation loss since then."""
        self.is_well, self.was_well = val <= self.well, self.is_well

    def lasts(self, loss: float) -> bool:
        """One more loss, finite: whether to wait on. A loss that stays, while the validation loss is as usual, is another matter: the data
        became harder, or a larger batch has a larger loss, and the model is none the worse."""
        if loss <= 0.0:
            return True
        above = math.log(loss) - self.usual
        if above > self.ruin or above > self.before + max(GROWS, GROWS_Z * self.sigma):
            return False
        self.seen.append(above)
        if len(self.seen) < self.points:
            return True
        middle, self.seen = median(sorted(self.seen)), []
        falls = middle <= FALLS * self.before
        self.before = middle
        return falls or self.is_well or self.was_well


def patience(sign: Sign, usual: Robust, ruin: float, vals: Collection[float]) -> Patience | None:
    """With a trip by that sign; None: it is of a kind that waits for nothing. ``ruin``: so many times its usual level no loss is waited
    with; ``vals``: the last validation losses; one is as usual up to the highest of them and once more what lies between neighbours."""
    if sign.kind != "loss" or sign.z is None or sign.since is not None or sign.factor >= ruin:
        return None
    moves = sorted(abs(b - a) for a, b in pairwise(vals))
    well = max(vals) + median(moves) if len(vals) >= BEFORE else -math.inf
    points = SMOOTHED_POINTS if usual.is_smoothed else POINTS
    centre, sigma = (usual.centre, usual.sigma) if sign.usual is None else (sign.usual, sign.sigma)
    return Patience(usual=centre, sigma=sigma, ruin=math.log(ruin), before=math.log(sign.factor), points=points, well=well)
