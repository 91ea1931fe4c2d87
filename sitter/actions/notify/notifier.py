"""Telling people what happens to the run, without ever being kept waiting by how."""

import threading
import time
from collections.abc import Callable, Sequence

from sitter.actions.notify.base import DEFAULT_EVENTS, FINAL_EVENTS, TIMEOUT_S, Notice
from sitter.actions.notify.catalogue import make
from sitter.actions.notify.rate import Rate
from sitter.actions.notify.worker import Worker
from sitter.clock import Clock, SystemClock, human
from sitter.config import NotifierConfig
from sitter.model import Struct

SAME_AGAIN_S = 600.0
"""The same key is not said twice within so long."""
PER_HOUR = 10
HOUR_S = 3600.0
ALL = "all"

OnResult = Callable[[str, str, bool, str], None]
"""notifier's name, event, whether it was delivered, what the other side said or why not."""


class TestResult(Struct, frozen=True):
    """What became of a test through one notifier."""

    __test__ = False  # for pytest: not a test
    notifier: str
    ok: bool
    detail: str


class _Told:
    """A notifier, what it wants to hear, and how often."""

    def __init__(self, config: NotifierConfig) -> None:
        self.name = config.name
        self.worker = Worker(config.name, make(config))
        self.events = frozenset(DEFAULT_EVENTS if config.events is None else config.events)
        self.rate, self.final_rate = Rate(PER_HOUR, HOUR_S), Rate(PER_HOUR, HOUR_S)

    def wants(self, event: str) -> bool:
        return event in self.events or ALL in self.events


class Notifications:
    """All notifiers of a run, each with a thread of its own. Raises ConfigError where one is set up wrongly.

    ``on_result`` is called in a notifier's thread, once for every message that was to be sent (not for those of ``test``).
    """

    def __init__(
        self, config: Sequence[NotifierConfig], run: str, *, on_result: OnResult | None = None, clock: Clock | None = None
    ) -> None:
        self._run, self._on_result = run, on_result
        self._clock = clock or SystemClock()
        self._told = [_Told(c) for c in config]
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], float] = {}

    def send(self, event: str, text: str, key: str = "") -> None:
        """Tell all who want to hear of ``event``; never blocks. The same event and ``key`` (else text) within 10 minutes: nothing."""
        now = self._clock.monotonic()
        with self._lock:
            self._said = {k: at for k, at in self._said.items() if now - at < SAME_AGAIN_S}
            same = (event, key or text)
            if same in self._said:
                return
            self._said[same] = now
            for told in self._told:
                if told.wants(event):
                    self._give(told, event, text, now)

    def test(self, timeout: float = TIMEOUT_S) -> list[TestResult]:
        """Send a test through every notifier and wait for all of them together at most ``timeout`` seconds."""
        results: dict[str, TestResult] = {}
        answered = threading.Condition()

        def done(name: str) -> Callable[[bool, str], None]:
            def take(ok: bool, detail: str) -> None:
                with answered:
                    results[name] = TestResult(notifier=name, ok=ok, detail=detail)
                    answered.notify_all()

            return take

        for told in self._told:
            notice = self._notice("test", f"this is a test of the notifier {told.name}; it works")
            told.worker.give(notice, done(told.name), patient=False)
        with answered:
            answered.wait_for(lambda: len(results) == len(self._told), timeout)
            late = f"no answer after {timeout:.0f} s; it may still come"
            return [results.get(t.name, TestResult(notifier=t.name, ok=False, detail=late)) for t in self._told]

    def busy(self) -> bool:
        """Whether anything is still being sent, or waits to be."""
        return any(told.worker.busy for told in self._told)

    def close(self, timeout: float) -> None:
        """Send what is waiting, at most ``timeout`` seconds; the rest is reported as not sent."""
        deadline = time.monotonic() + timeout
        for told in self._told:
            told.worker.end()
        for told in self._told:
            told.worker.join(max(0.0, deadline - time.monotonic()))

    def _give(self, told: _Told, event: str, text: str, now: float) -> None:
        rate = told.final_rate if event in FINAL_EVENTS else told.rate
        turn = rate.ask(now)
        if turn == "silent":
            return
        if turn == "last":
            text = (
                f"more than {PER_HOUR} messages within an hour: the rest is suppressed for {human(rate.room_in(now))} and "
                "stands in the logbook"
            )
        elif held := rate.take_held():
            text = f"{text} ({held} more were suppressed before)"
        told.worker.give(self._notice(event, text), lambda ok, detail: self._result(told.name, event, ok, detail))

    def _notice(self, event: str, text: str) -> Notice:
        return Notice(event=event, text=text, run=self._run, time=self._clock.wall())

    def _result(self, name: str, event: str, ok: bool, detail: str) -> None:
        if self._on_result is not None:
            self._on_result(name, event, ok, detail)


