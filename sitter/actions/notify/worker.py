"""One notifier's thread and queue: if it hangs, it hangs alone."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from sitter.actions.notify.base import Notice, Notifier, NotifyError

log = logging.getLogger(__name__)

WAITING = 50
"""So many notices may wait for a notifier that hangs; the oldest gives way."""
AGAIN_AFTER_S = (2.0, 10.0)
"""Pauses before the second and the third attempt, for a network that is away for a moment."""

Done = Callable[[bool, str], None]


class _Job(NamedTuple):
    notice: Notice
    done: Done
    patient: bool


class Worker:
    """Delivers one by one. ``done(ok, detail)`` of each is called in its thread, once."""

    def __init__(self, name: str, notifier: Notifier) -> None:
        self.name = name
        self._notifier = notifier
        self._jobs: deque[_Job] = deque()
        self._present: _Job | None = None
        self._wake = threading.Condition()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def give(self, notice: Notice, done: Done, *, patient: bool = True) -> None:
        """Deliver it when its turn comes; ``patient``: with more attempts. Never blocks."""
        dropped: _Job | None = None
        with self._wake:
            if self._closing.is_set():
                dropped = _Job(notice, done, patient)
            else:
                if len(self._jobs) >= WAITING:
                    dropped = self._jobs.popleft()
                self._jobs.append(_Job(notice, done, patient))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name=f"sitter-notify-{self.name}", daemon=True)
                    self._thread.start()
                self._wake.notify()
        if dropped is not None:
            self._tell(dropped, False, "not sent: too many are waiting, or the daemon is ending")

    @property
    def busy(self) -> bool:
        """Whether it has something left to deliver."""
        with self._wake:
            return self._present is not None or bool(self._jobs)

    def end(self) -> None:
        """Deliver what is waiting, without pauses, and end."""
        with self._wake:
            self._closing.set()
            self._wake.notify()

    def join(self, timeout: float) -> None:
        """Wait for the end at most so long. Whatever is not delivered by then is reported so, also if it hangs in mid-delivery."""
        if self._thread is not None:
            self._thread.join(timeout)
        with self._wake:
            left = [*([self._present] if self._present else []), *self._jobs]
            self._jobs.clear()
            self._present = None
        for job in left:
            self._tell(job, False, "not sent: the daemon ended before it could be")

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._jobs or self._closing.is_set())
                if not self._jobs:
                    return
                job = self._present = self._jobs.popleft()
            ok, detail = self._deliver(job)
            with self._wake:
                if self._present is not job:  # given up in the meantime, and reported so
                    continue
                self._present = None
            self._tell(job, ok, detail)

    def _deliver(self, job: _Job) -> tuple[bool, str]:
        pauses = AGAIN_AFTER_S if job.patient else ()
        for attempt, pause in enumerate((*pauses, None), start=1):
            try:
                return True, self._notifier.send(job.notice)
            except NotifyError as e:
                if not e.again or pause is None or self._closing.wait(pause):
                    return False, f"{e} ({attempt} attempts)" if attempt > 1 else str(e)
            except Exception as e:  # noqa: BLE001 — only its type is told: a foreign text may show the address with its token
                log.warning("notifier %s failed: %s", self.name, type(e).__name__)
                return False, f"an unexpected {type(e).__name__}"
        raise AssertionError

    def _tell(self, job: _Job, ok: bool, detail: str) -> None:
        try:
            job.done(ok, detail)
        except Exception:  # whoever waits for it is another's code; the next notice has its turn all the same
            log.exception("the result of notifier %s could not be handed on", self.name)
