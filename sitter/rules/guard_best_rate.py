"""At which learning rate the best losses were reached: a rate that was raised since has a higher loss, and nothing is wrong with that."""

from sitter.rules.guard_rate import Rate
from sitter.rules.memory import Memory

RAISED = 1.2
"""From so many times the rate of the best losses on these say nothing any more. In trials a rate of SGD that was given back, ten times
as high, left both losses 1.3 to 1.4 times above their best for good, in a healthy run; a rate that differs by less moves them by less."""


class BestRate(Memory):
    """The rate in use when the losses last stood near their best. Asked and told with each validation loss.

    A scale that is higher now was raised on purpose, by whoever turned the knob; also after a restore, which leaves it as it is. A
    scheduled rate counts as raised where it has been before those losses (a warm restart, a cycle); beyond that it is no excuse.
    """

    __slots__ = ("_highest", "_scale", "_scheduled")

    def __init__(self) -> None:
        self._scale: float | None = None
        self._scheduled: float | None = None
        self._highest = 0.0

    def is_left(self, rate: Rate, scale: float) -> bool:
        """The rate was raised since."""
        if self._scale is not None and scale > RAISED * self._scale:
            return True
        now, then = rate.now, self._scheduled
        return now is not None and then is not None and RAISED * then < now <= 1.05 * self._highest

    def remember(self, rate: Rate, scale: float) -> None:
        """They stand near their best now."""
        self._scale, self._scheduled, self._highest = scale, rate.now, rate.highest
