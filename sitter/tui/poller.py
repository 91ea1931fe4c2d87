"""The thread that asks the daemon, so that the screens never wait for it."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from textual.message import Message

from sitter.errors import DaemonError, SitterError, UsageError
from sitter.model import Answered, Status
from sitter.tui.messages import (
    CurvesCame,
    DaemonLost,
    DeedEnded,
    LogbookCame,
    RulesCame,
    SinceCame,
    StatusCame,
    TrainLogCame,
    Trouble,
)
from sitter.tui.train_log import TrainLog
from sitter.tui.view import Deed
from sitter_wire import queries

SLOWEST_S = 2.0
"""Between two questions when nothing changes, or nobody answers."""
DEMAND_TIMEOUT_S = 45.0
"""``stop --now`` takes 30 s to be sure."""

LOST_AFTER_S = 2.0
"""Without an answer for so long the daemon is said to be lost: figures that are not of the present must not look as if they were."""


class Reader(Protocol):
    """``sitter.client.Client``, or anything that answers like it."""

    def ask(self, query: queries.AnyQuery, timeout: float = 5.0) -> Any:
        """The typed reply. Raises DaemonError where nobody answers, UsageError where the question was wrong."""
        ...


class Wants(NamedTuple):
    """What the screens need at present; replaced as a whole, never changed. A reply to an older ``generation`` is dropped."""

    generation: int = 0
    chart: queries.GetCurves | None = None
    multiples: queries.GetCurves | None = None
    rules: bool = False
    train_log: bool = False


class Poller:
    """Asks for the status twice a second, for the rest when it has changed; slower when nothing does."""

    def __init__(self, reader: Reader, post: Callable[[Message], object], *, since: float | None, poll_s: float) -> None:
        self.wants = Wants()
        self._reader, self._post, self._since, self._poll_s = reader, post, since, poll_s
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="sitter-tui-poller", daemon=True)
        self._log_id = 0
        self._last: Status | None = None
        self._generation = -1
        self._next: dict[str, float] = {}
        self._log: TrainLog | None = None
        self._idle = 0
        self._trouble = ""
        self._unanswered: set[str] = set()
        """What was asked in vain, and is asked again when it is due: until then its trouble stands."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float = 0.0) -> None:
        """Ask no more; an answer that is under way is not waited for, but for ``timeout`` seconds."""
        self._stop.set()
        self._wake.set()
        if timeout and self._thread.is_alive():
            self._thread.join(timeout)

    def wake(self) -> None:
        """Ask now rather than in half a second."""
        self._idle = 0
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                trouble = self._look()
            except SitterError as e:
                trouble = str(e)
            except Exception as e:  # noqa: BLE001 — a broken reply must not leave the screens frozen and silent
                trouble = f"cannot read the daemon's answer: {type(e).__name__}: {e}"
            if trouble != self._trouble:
                self._trouble = trouble
                self._post(Trouble(trouble))
            self._wake.wait(min(SLOWEST_S, self._poll_s * (1 if self._idle < 10 else 2 if self._idle < 60 else 4)))

    def _look(self) -> str:
        try:
            status: Status = self._reader.ask(queries.GetStatus(), LOST_AFTER_S)
        except DaemonError:
            self._idle = max(self._idle, 10)
            self._last = None
            self._post(DaemonLost())
            return ""
        wants, last = self.wants, self._last
        moved = last is None or _moving(status) != _moving(last)
        asked = wants.generation != self._generation
        self._idle = 0 if moved or asked else self._idle + 1
        self._last = status
        self._post(StatusCame(status))
        if self._since is not None:
            self._post(SinceCame(self._reader.ask(queries.GetSince(since=self._since))))
            self._since = None
        if wants.chart and (asked or (moved and self._due("chart", 2 * self._poll_s))):
            self._generation = wants.generation
            self._post(CurvesCame(self._answer("chart", wants.chart), wants.generation))
        if wants.multiples and (asked or (moved and self._due("multiples", 6 * self._poll_s))):
            self._generation = wants.generation
            self._post(CurvesCame(self._answer("multiples", wants.multiples), wants.generation, multiples=True))
        if status.log_id != self._log_id or last is None:
            anew = status.log_id < self._log_id
            entries = self._reader.ask(queries.GetLogbook(after=0 if anew else self._log_id))
            # as far as was read, not as far as is known of: what is not committed yet comes with the next question
            self._log_id = max((e.id for e in entries), default=0 if anew else self._log_id)
            self._post(LogbookCame(entries, anew=anew))
        if wants.rules and (asked or self._due("rules", 4 * self._poll_s)):
            self._post(RulesCame(self._answer("rules", queries.GetRules())))
        if wants.train_log and status.directory:
            self._read_log(Path(status.directory) / "train.log")
        seen = {"chart": wants.chart, "multiples": wants.multiples, "rules": wants.rules}
        self._unanswered &= {name for name, wanted in seen.items() if wanted}
        return self._trouble if self._unanswered else ""

    def _answer(self, name: str, query: queries.AnyQuery) -> Any:
        self._unanswered.add(name)
        answer = self._reader.ask(query)
        self._unanswered.discard(name)
        return answer

    def _due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every
        return True

    def _read_log(self, path: Path) -> None:
        first = self._log is None or self._log.path != path
        if self._log is None or first:
            self._log = TrainLog(path)
        try:
            if self._log.read() or first:
                self._post(TrainLogCame(list(self._log.lines)))
        except OSError as e:
            raise DaemonError(f"cannot read {path}: {e.strerror}") from e


def _moving(status: Status) -> tuple[object, ...]:
    """What makes curves and logbook worth asking for again."""
    return status.step, status.branch, status.state, status.log_id


def carry_out(reader: Reader, deeds: Sequence[tuple[Deed, queries.AnyQuery]], post: Callable[[Message], object]) -> None:
    """Ask for each demand in turn, in a thread of its own; the first that is not applied ends it, and the rest is said to be left out."""

    def run() -> None:
        left_out = False
        for deed, query in deeds:
            if left_out:
                post(DeedEnded(deed, "refused", "left out, since the one before was not applied", None))
                continue
            try:
                answer: Answered = reader.ask(query, timeout=5.0 if isinstance(query, queries.Act) else DEMAND_TIMEOUT_S)
                post(DeedEnded(deed, answer.status, answer.text, answer))
                left_out = answer.status != "applied"
            except UsageError as e:
                post(DeedEnded(deed, "refused", str(e), None))
                left_out = True
            except DaemonError:
                lost = "the daemon is lost, so no answer came; the logbook will say what became of it"
                post(DeedEnded(deed, "unanswered", lost, None))
                left_out = True
            except Exception as e:  # noqa: BLE001 — whatever went wrong, silence is never success
                post(DeedEnded(deed, "unanswered", str(e), None))
                left_out = True

    threading.Thread(target=run, name="sitter-tui-demand", daemon=True).start()
