"""What becomes of each look at the machine: screens and rules see it, the history keeps it, the logbook has what the driver said."""

from collections.abc import Callable

from sitter.control.board import Board
from sitter.host.kept import Keeper
from sitter.host.sampler import HostSample
from sitter.rules.xids import in_words
from sitter.store.writer import Writer


class Machine:
    """Of one daemon. ``alarms``: sentences for the logbook."""

    def __init__(self, board: Board, writer: Writer, alarms: Callable[[list[str]], None]) -> None:
        self._board, self._writer, self._alarms = board, writer, alarms
        self._keeper = Keeper()

    def seen(self, sample: HostSample) -> None:
        """On the loop's thread."""
        self._board.host, self._board.gpus = sample.host, sample.gpus
        self._alarms([*sample.alarms, *(f"{gpu}: {in_words(code)}" for gpu, code in sample.xids)])
        words, figures = self._keeper.keep(sample)
        if words is not None:
            self._writer.gpus(sample.time, words)
        self._writer.host(sample.time, figures)
