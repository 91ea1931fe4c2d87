"""What the threads tell the screens. Each arrives in the app's own loop."""

from collections.abc import Sequence

from textual.message import Message

from sitter.model import Answered, Curves, LogEntry, RuleState, Since, Status
from sitter.tui.view import Deed, DeedStatus


class StatusCame(Message):
    """The present."""

    def __init__(self, status: Status) -> None:
        super().__init__()
        self.status = status


class CurvesCame(Message):
    """Curves for the chart, or for the small multiples; stale where ``generation`` is not the present one."""

    def __init__(self, curves: Curves, generation: int, *, multiples: bool = False) -> None:
        super().__init__()
        self.curves, self.generation, self.multiples = curves, generation, multiples


class LogbookCame(Message):
    """New entries, oldest first. ``anew``: the history is another one, forget what came before."""

    def __init__(self, entries: Sequence[LogEntry], *, anew: bool) -> None:
        super().__init__()
        self.entries, self.anew = entries, anew


class RulesCame(Message):
    """Every rule."""

    def __init__(self, rules: list[RuleState]) -> None:
        super().__init__()
        self.rules = rules


class SinceCame(Message):
    """What happened since the operator last looked."""

    def __init__(self, since: Since) -> None:
        super().__init__()
        self.since = since


class TrainLogCame(Message):
    """The lines of train.log that are kept."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__()
        self.lines = lines


class DaemonLost(Message):
    """Nobody answered."""


class Trouble(Message):
    """One question could not be answered; empty once it could again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class DeedEnded(Message):
    """What became of a demand; ``answer`` None where there was none."""

    def __init__(self, deed: Deed, status: DeedStatus, text: str, answer: Answered | None) -> None:
        super().__init__()
        self.deed, self.status, self.text, self.answer = deed, status, text, answer
