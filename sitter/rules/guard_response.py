"""What the guard does about trouble: where to go back to, when to try again, when the rate is to blame. A state machine, no signals."""

from typing import NamedTuple

import msgspec

from sitter.rules.guard_patience import Patience
from sitter.rules.guard_rate import Jump
from sitter.rules.guard_signs import Sign
from sitter_wire.commands import Rollback

AGAIN_POINTS = 5
"""Logged points after a restore that count as ``again`` even where they are further apart than the steps of the parameter."""

WAIT_BATCH = 20
"""Points to wait at most, before a second restore, for the end of bad batches when the first batch after going back was bad: going back
into the midst of them would spend another of a few tries. What is trained meanwhile is thrown away anyway."""

WAIT_BLIND = 4
"""The same where nothing is finite any more, so that the end of the bad batches cannot be seen."""

WAIT_LAST = 40
"""The same before any further restore: one window."""

RETRY_POINTS = 5
"""Points after which a refused trip asks again, doubled every time …"""

REMIND_POINTS = 40
"""… and after which one asks again that nothing came of (nobody may act, no answer, a budget that was spent and may be back)."""

DOUBLINGS = 8
"""At most."""


class Trip(msgspec.Struct, kw_only=True):
    """One trip: from the first bad point until a restore, or until it is over by itself."""

    sign: Sign
    step: int
    branch: int
    onset: int
    before: int
    text: str
    want: float
    jump: Jump | None = None
    lost: list[str] = []  # signals of which it was said that they are not finite
    wait: int = 0
    patience: Patience | None = None
    points: int = 0
    attempt: int = 0
    proposed: bool = False
    retry_at: int = 0
    factor: float = 1.0  # what the proposed rollback multiplies the rate's scale by


class Plan(NamedTuple):
    """How to answer a trip."""

    wait: int
    want: float
    words: str


class Response:
    """Outlives restores: how often it went back, what it did to the rate, what the trouble has cost."""

    def __init__(self) -> None:
        self.trip: Trip | None = None
        self.trouble: str = ""  # key of the trouble that is open, from the first trip to the recovery
        self.onset = 0
        self.steps_lost = 0
        self.restores = 0  # in a row, each soon after the one before
        self.restored: tuple[int, int] | None = None  # branch, step of the last restore
        self.restored_held = 1.0  # what the guard had on the rate in the state that was put back
        self.since = 0  # judged points after it
        self.first_bad: int | None = None  # step of the first of them, if it was bad
        self.want = 1.0  # what the guard wants on the rate now
        self.usual_rate: float | None = None  # where the schedule stands without somebody's bug, in the state that was put back
        self.bug_rate: float | None = None  # the last scheduled rate of this branch, while that bug lasts
        self.excused = 0  # how often in a row a value was at fault and not the model

    def judged(self, step: int, odd: bool, *, main: bool) -> None:
        """One more judged point on this branch."""
        if main:
            self.since += 1
        if self.since <= 1 and odd and self.first_bad is None:
            self.first_bad = step

    def is_again(self, step: int, within: int) -> bool:
        """A trip so soon after a restore that the two belong together."""
        return self.restores > 0 and self.restored is not None and (
            step - self.restored[1] <= within or self.since <= AGAIN_POINTS
        )  # fmt: skip

    def plan(self, sign: Sign, onset: int, again: bool, jump: Jump | None, can_scale: bool, cut: float) -> Plan:
        """First trip: go back, data go on, knobs unchanged. Then by what happened after going back."""
        if not again:
            self.restores = 0
        if jump is not None and can_scale:
            return Plan(0, self.want / jump.factor, f"; the scheduled lr stands at {jump.factor:.3g} × what it was: divided out")
        if not again:
            wait = 0 if not self.excused else min(WAIT_BLIND**self.excused, 5 * WAIT_LAST)
            return Plan(wait, self.want, "")
        batch = onset == self.first_bad
        first = WAIT_BLIND if sign.kind == "nonfinite" else WAIT_BATCH
        wait = WAIT_LAST if self.restores > 1 else first if batch else 0
        if batch:
            return Plan(wait, self.want, ", the first batch after going back: the batches are at fault")
        if can_scale:
            return Plan(wait, self.want * cut, f", again soon after going back: lr × {cut:g} until it is healthy")
        return Plan(wait, self.want, ", again soon after going back")

    def where(self, healthy: int | None, onset: int, margin: int, jump: Jump | None) -> int:
        """The step to be at or before. The state last restored is trusted: healthy points followed it before the trouble began."""
        before = (onset if healthy is None else healthy) - margin
        if jump is not None:
            before = min(before, jump.step - 1)
        if self.restored is not None:
            before = max(before, self.restored[1])
        return before

    def rollback(self, trip: Trip, held: float, *, unless_finite: bool) -> Rollback:
        """The command. Scales come back with the state, so that what is sent is relative to what the guard had on it there."""
        at_restored = self.restored is not None and trip.before <= self.restored[1]
        trip.factor = trip.want / (self.restored_held if at_restored else held)
        trip.proposed, trip.attempt = True, trip.attempt + 1
        trip.retry_at = trip.points + REMIND_POINTS * 2 ** min(trip.attempt - 1, DOUBLINGS)
        scale = {} if abs(trip.factor - 1.0) < 1e-9 else {"lr": trip.factor}
        return Rollback(before=trip.before, unless_finite=unless_finite, also_scale=scale, why=trip.text)

    def refused(self) -> None:
        """Rejected, expired or vetoed."""
        trip = self.trip
        if trip is not None and trip.proposed:
            trip.proposed = False
            trip.retry_at = trip.points + RETRY_POINTS * 2 ** min(trip.attempt - 1, DOUBLINGS)

    def gone_back(self, branch: int, step: int, left: int, held: float, rate: float | None) -> float | None:
        """A restore. ``held``: what the guard had on the rate in the state put back; ``rate``: what was scheduled there (None: not
        known). Returns what it has asked to put on the rate now."""
        trip, self.trip = self.trip, None
        self.restored, self.restored_held = (branch, step), held
        self.since, self.first_bad, self.bug_rate = 0, None, None
        if self.usual_rate is not None and rate is not None:
            self.usual_rate = rate
        if trip is None or not trip.proposed:
            return None  # somebody else's
        self.restores += 1
        self.steps_lost += max(0, left - step)
        self.want = trip.want
        if trip.jump is not None and trip.factor != 1.0:
            self.usual_rate = trip.jump.usual if rate is None else rate
        return trip.factor if trip.factor != 1.0 else None

    def bug_lasts(self, scheduled: float, factor: float) -> bool:
        """Whether the scheduled rate still stands so far off. It is over when it is near where it stood, or comes down by that much
        from one point to the next: meanwhile a warm-up may have gone on."""
        before, self.bug_rate = self.bug_rate, scheduled
        if self.usual_rate is not None and scheduled > factor * self.usual_rate and not (before and scheduled * factor < before):
            return True
        self.usual_rate = self.bug_rate = None
        return False

    def over(self) -> None:
        """The trouble is over."""
        self.trip, self.trouble, self.steps_lost, self.excused = None, "", 0, 0
