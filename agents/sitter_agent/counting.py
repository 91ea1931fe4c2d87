"""Counting turns and optimizer steps. Works even where nothing is recorded: a loop must end at the same step with us or without."""

from sitter_agent.handlers import raised_by_handler
from sitter_agent.progress import Progress
from sitter_agent.state import Adapter


class Counting:
    """What a loop needs to know to go on and to end."""

    def __init__(self, adapter: Adapter | None, progress: Progress) -> None:
        self.progress = progress
        self._adapter = adapter
        self._seen: int | None = None

    def steps_taken(self) -> int:
        """Optimizer steps since the last call; 1 where no optimizer is known, since then every turn is one."""
        if self._adapter is None:
            return 1
        try:
            now = self._adapter.steps_done()
        except Exception as e:  # a count that cannot be had must not end the training early or late
            if raised_by_handler(e):
                raise
            self._adapter = None
            return 1
        if now is None:
            return 1
        seen, self._seen = self._seen, now
        return now - (seen if seen is not None else now - 1)

    def begin(self) -> None:
        """What the optimizer did before the loop does not count."""
        if self._adapter is not None:
            try:
                self._seen = self._adapter.steps_done()
            except Exception as e:  # as above
                if raised_by_handler(e):
                    raise
                self._adapter = None

    # What a loop tells. Here: nothing to be done but count.

    def loop_begins(self, total: int | None, epochs: int | None = None) -> None:
        """A loop of ours takes over; by epochs, once for all of them."""
        self.progress.total = total if total is not None else self.progress.total

    def epoch_over(self, epochs: int, count: int) -> None:
        """So many of ``count`` epochs are done."""

    def turns_begin(self, feed: object) -> None:
        """From here on the turns are ours; ``feed`` brings the batches, where one of ours does."""
        self.progress.managed = True
        self.progress.current = self.progress.done
        self.begin()

    def turn_over(self, waited: float) -> None:
        """One turn of the loop is over; ``waited`` seconds of it went into fetching the batch."""
        self.progress.micro += 1
        self.progress.done += max(0, self.steps_taken())
        self.progress.current = self.progress.done

    def turns_end(self) -> None:
        """The turns are the script's again."""
        self.progress.managed = False

    def loop_over(self, how: str) -> None:
        """It ended: ``total``, ``stopped`` or ``left early``."""
