"""The stacks of a training that stands become a report, and the line that it stands on is read from its script: in a thread, since the file
system may be what hangs, and with it would hang the daemon's loop."""

import contextlib
import logging
import threading
from collections.abc import Callable

import msgspec

from sitter.clock import Clock
from sitter.supervise import stack_text
from sitter.vitals import Stood
from sitter_wire.places import RunDir

log = logging.getLogger(__name__)

PATIENCE_S = 3.0
"""So long a disk is waited for that takes some milliseconds as a rule; then what the stacks say by themselves is told."""
MOST_REPORTS = 50
"""Stack reports of a run that are kept."""


class Stacks(msgspec.Struct, frozen=True, kw_only=True):
    """As they were taken. ``at``: monotonic seconds; ``began``: unix seconds of the session's start, where known; ``kernel``: what the
    kernel says of the threads."""

    at: float
    session: str
    step: int
    began: float | None
    how: str
    text: str
    kernel: str = ""


Told = Callable[[Stood], None]


class StackReports:
    """Of one run; on the loop's thread. ``post`` brings a task from any thread to it."""

    def __init__(self, run: RunDir, clock: Clock, post: Callable[[Callable[[], None]], None]) -> None:
        self._run, self._clock, self._post = run, clock, post
        self._waiting: tuple[Stacks, Told] | None = None
        self._since = 0.0
        self._at_work: threading.Thread | None = None
        """Until the loop has heard that it is done: it lives for a moment longer than it has work."""

    def take(self, stacks: Stacks, told: Told) -> None:
        """``told`` is called once, on the loop's thread: when the report is written; where it is not, after ``PATIENCE_S``, by ``tick``."""
        self._tell_waiting()
        if self._at_work is not None:  # in a call that the disk does not come back from: one of them is enough
            told(_stood(stacks, quote=False))
            return
        self._waiting, self._since = (stacks, told), self._clock.monotonic()

        def work() -> None:
            try:
                stood = _stood(stacks, quote=True)
                stood = msgspec.structs.replace(stood, path=self._write(stacks, stood.where))
            except Exception:  # whoever waits is told by ``tick``
                log.exception("the stacks' report")
                self._post(self._done)
                return
            self._post(lambda: self._written(stacks, stood))

        thread = threading.Thread(target=work, name="sitter-stacks", daemon=True)
        thread.start()
        self._at_work = thread

    def tick(self) -> None:
        """Once a second."""
        if self._waiting is not None and self._clock.monotonic() - self._since >= PATIENCE_S:
            log.warning("the stacks' report is not written after %.0f s: does the run's file system hang?", PATIENCE_S)
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        """What the stacks alone say."""
        if self._waiting is not None:
            (stacks, told), self._waiting = self._waiting, None
            told(_stood(stacks, quote=False))

    def _done(self) -> None:
        self._at_work = None

    def _written(self, stacks: Stacks, stood: Stood) -> None:
        self._done()
        if self._waiting is not None and self._waiting[0] is stacks:  # else it was too late
            (_, told), self._waiting = self._waiting, None
            told(stood)

    def _write(self, stacks: Stacks, where: str) -> str:
        """The report's path in the run directory; empty where it could not be written."""
        head = f"session {stacks.session}, step {stacks.step}, taken by {stacks.how}\n" + (f"it stands at {where}\n" if where else "")
        kernel = f"\n\nthreads, as the kernel sees them\n{stacks.kernel}\n" if stacks.kernel else "\n"
        name = f"stacks-{stacks.step}-{int(self._clock.wall())}.txt"
        try:
            self._run.reports.mkdir(exist_ok=True)
            (self._run.reports / name).write_text(f"{head}\n{stacks.text}{kernel}", encoding="utf-8", errors="replace")
        except OSError as e:
            log.warning("cannot write %s: %s", name, e)
            return ""
        reports = [p for p in self._run.reports.glob("stacks-*-*.txt") if p.name.count("-") == 2 and p.stem.split("-")[1].isdigit()]
        for old in sorted(reports, key=lambda p: p.stem.split("-")[2])[:-MOST_REPORTS]:
            with contextlib.suppress(OSError):
                old.unlink()
        return f"reports/{name}"


def _stood(stacks: Stacks, *, quote: bool) -> Stood:
    """``quote``: with the line itself, which is read from the script's file."""
    threads = stack_text.parse(stacks.text)
    return Stood(
        at=stacks.at, session=stacks.session, step=stacks.step, how=stacks.how, where=stack_text.where(threads, stacks.began, quote=quote),
        innermost=stack_text.innermost(threads), threads=len(threads),
    )  # fmt: skip
