"""When the next commit is due, and whether the thread that makes it must be woken for what has just come."""

COMMIT_EVERY = 0.25
"""Seconds between commits while there is something to commit; nothing wakes the thread otherwise."""

LEISURE_EVERY = 5.0
"""Seconds between commits at leisure. A commit costs some 0.3 ms of CPU however little is in it: four a second beside a run of one step a
second would cost more than all else the daemon does. What is not committed is not acknowledged, and stays in the recorder."""

FEW = 16
"""Records waiting that end the leisure: a run that makes 64 a second (some 30 steps) is committed every 250 ms."""

MANY = 10_000
"""Records waiting that start a commit early, as when a dead session's files are read."""


class Pace:
    """Of one writer, under its lock; times are monotonic seconds.

    After a commit the thread dozes for as long as the next one cannot be due, and is not woken for what comes meanwhile: one wake a
    commit instead of two. Only when nothing came in that time does it sleep until it is woken.
    """

    def __init__(self) -> None:
        self.leisure = False
        """Whether a few values may wait ``LEISURE_EVERY``. Words and events never do."""
        self._records = 0
        self._first_at: float | None = None
        self._pressing = False
        self._doze_until: float | None = None
        self._asleep = False

    @property
    def _quick(self) -> bool:
        return self._pressing or not self.leisure or self._records >= FEW

    def came(self, now: float, *, records: int = 0, pressing: bool = False) -> bool:
        """Something waits, with so many records in it; whether the thread would not see to it in time by itself."""
        was_quick, first = self._quick, self._first_at is None
        if first:
            self._first_at = now
        self._records += records
        self._pressing = self._pressing or pressing
        return (first and self._asleep) or (self._quick and not was_quick) or self._records >= MANY

    def wait(self, now: float) -> float | None:
        """Seconds that the thread may sleep: 0.0 when a commit is due, None until it is woken."""
        if self._records >= MANY:
            return 0.0
        if self._first_at is not None:
            due = self._first_at + (COMMIT_EVERY if self._quick else LEISURE_EVERY)
            if self._doze_until is not None:
                due = min(due, self._doze_until)
            self._asleep = False
            return max(0.0, due - now)
        if self._doze_until is not None and now >= self._doze_until:
            self._doze_until = None
        self._asleep = self._doze_until is None
        return None if self._doze_until is None else self._doze_until - now

    def taken(self, now: float) -> bool:
        """What waited is being committed; whether that is at leisure, so that nobody waits for it."""
        at_leisure = not self._quick
        self._doze_until = now + (LEISURE_EVERY if at_leisure else COMMIT_EVERY)
        self._records, self._first_at, self._pressing, self._asleep = 0, None, False, False
        return at_leisure
