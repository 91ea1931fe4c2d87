"""The thread that looks at GPUs and machine, and never keeps anybody waiting.

Driver calls can hang for ever, so they are made in a thread of their own (``sitter-nvml``); ``sitter-host`` asks it,
waits a moment, and when no answer comes goes on with the machine's figures and says that the driver hangs.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sitter.clock import Clock, human
from sitter.host.gpus import Gpus, Seen, nothing_known
from sitter.host.machine import Machine
from sitter.model import GpuNow, HostNow, Struct

log = logging.getLogger(__name__)

FAST_S = 1.0
SLOW_S = 10.0
HANG_S = 10.0
"""A driver call that takes longer is called hung: opening the driver may take seconds, a figure takes milliseconds."""
HANG_LOOKS = 3
"""And is still the same at so many looks in a row: where the daemon itself was stopped, or had no turn, one look is late and none is
skipped."""


class HostSample(Struct, frozen=True):
    """One look. ``time``: unix seconds. ``host`` is read every 10 s (then ``fresh``) and repeated between.

    ``alarms``: sentences, each said once, about what has just gone wrong (or right again) with a GPU or its driver;
    ``xids``: what the driver has just reported as such, by the GPU's name and the number.
    """

    time: float
    gpus: list[GpuNow]
    host: HostNow
    alarms: list[str]
    fresh: bool = True
    xids: tuple[tuple[str, int], ...] = ()


class _Asker:
    """The thread that may hang. One question at a time; an answer that nobody waited for is taken at the next look."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus
        self._wake = threading.Condition()
        self._question: tuple[bool, int | None, tuple[str, ...]] | None = None
        self._answer: Seen | None = None
        self._busy = False
        self._closing = False
        threading.Thread(target=self._work, name="sitter-nvml", daemon=True).start()

    def ask(self, slow: bool, pid: int | None, uuids: tuple[str, ...]) -> None:
        """Put the question, unless one is still open."""
        with self._wake:
            if not self._busy and self._answer is None:
                self._question, self._busy = (slow, pid, uuids), True
                self._wake.notify_all()

    def answer(self, timeout: float) -> Seen | None:
        """The answer, once it is there; None after ``timeout`` seconds."""
        with self._wake:
            self._wake.wait_for(lambda: self._answer is not None or self._closing, timeout)
            answer, self._answer = self._answer, None
            return answer

    @property
    def busy(self) -> bool:
        """Whether a question is open."""
        return self._busy

    @property
    def idle(self) -> bool:
        """Whether no question is open, and no answer waits to be taken."""
        return not self._busy and self._answer is None

    def close(self) -> None:
        """Let the thread end; one that hangs in the driver goes with the process."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._question is not None or self._closing)
                question, self._question = self._question, None
                if question is None or self._closing:
                    break
            slow, pid, uuids = question
            try:
                seen = self._gpus.look(slow=slow, pid=pid, uuids=uuids)
            except Exception as e:  # a mistake of ours in here must not end the host's figures
                log.exception("sampling the GPUs failed")
                seen = Seen([], f"no GPU figures: {type(e).__name__}: {e}", [])
            with self._wake:
                self._answer, self._busy = seen, False
                self._wake.notify_all()
        self._gpus.close()


class Sampler:
    """Looks every ``fast_s`` at the run's GPUs, every ``slow_s`` at everything; without a GPU only the latter.

    ``on_sample`` is called in the thread ``sitter-host`` and must not block; what it raises is logged. The first sample
    comes at once.
    """

    def __init__(
        self, run_dir: Path, clock: Clock, on_sample: Callable[[HostSample], None], *,
        fast_s: float = FAST_S, slow_s: float = SLOW_S, hang_s: float = HANG_S,
    ) -> None:  # fmt: skip
        self._clock, self._on_sample = clock, on_sample
        self._fast_s, self._slow_s, self._hang_s = fast_s, slow_s, hang_s
        self._machine = Machine(run_dir, clock.monotonic)
        self._gpus = Gpus(clock)
        self._asker = _Asker(self._gpus)
        self._lock = threading.Lock()
        self._watched: tuple[int | None, tuple[str, ...]] = (None, ())
        self._wake = threading.Event()
        self._closing = False
        self._hung: tuple[str, float] | None = None
        self._asking: tuple[str, float] | None = None
        self._looks = 0  # at which that was being asked
        self._seen = Seen([], "looking for GPUs", [])
        self._host = HostNow()
        self._thread = threading.Thread(target=self._run, name="sitter-host", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def watch(self, pid: int | None, gpu_uuids: Sequence[str] = ()) -> None:
        """Which process is the training, and which GPUs it said it uses. Looked at at once."""
        with self._lock:
            told = (pid, tuple(gpu_uuids))
            if told == self._watched:
                return
            self._watched = told
        self._wake.set()

    def close(self, timeout: float = 1.0) -> None:
        """End; waits at most ``timeout`` seconds, and for no driver call."""
        self._closing = True
        self._asker.close()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        watching: tuple[int | None, tuple[str, ...]] = (None, ())
        slow_at = float("-inf")
        while not self._closing:
            self._wake.clear()
            if self._closing:
                return
            with self._lock:
                told = self._watched
            begun = self._clock.monotonic()
            slow = begun >= slow_at or told != watching
            try:
                if told[0] != watching[0]:
                    self._machine.watch(told[0])
                watching = told
                self._look(slow, told)
            except Exception:  # drivers and /proc fail in ways nobody lists; one look less must not end the looking
                log.exception("a look at the host failed")
            if slow:
                slow_at = begun + self._slow_s
            period = self._fast_s if self._gpus.present or self._asker.busy else self._slow_s
            self._wake.wait(max(0.0, begun + period - self._clock.monotonic()))

    def _look(self, slow: bool, watched: tuple[int | None, tuple[str, ...]]) -> None:
        seen: Seen | None
        if self._asker.idle and self._gpus.nothing_to_ask:
            seen = self._seen._replace(alarms=[], xids=())  # on a machine without a GPU no second thread need wake
        else:
            self._asker.ask(slow, *watched)
            seen = self._asker.answer(min(self._fast_s, self._hang_s))
        alarms: list[str] = []
        if seen is not None:
            self._seen = seen
            if self._hung is not None:
                alarms.append(f"the NVIDIA driver answers again after {human(self._clock.monotonic() - self._hung[1])}")
                self._hung = None
        else:
            alarms += self._notice_hang()
        if self._closing:
            return
        if slow:
            self._host = self._machine.now(self._seen.note)
        elif self._host.gpu_note != self._seen.note:
            self._host = msgspec.structs.replace(self._host, gpu_note=self._seen.note)
        alarms = [*(seen.alarms if seen else []), *alarms]
        self._on_sample(HostSample(
            time=self._clock.wall(), gpus=self._seen.gpus, host=self._host, alarms=alarms, fresh=slow, xids=seen.xids if seen else (),
        ))  # fmt: skip

    def _notice_hang(self) -> list[str]:
        """Say once that a call does not come back, and stop showing figures that are no longer true."""
        asking, now = self._gpus.driver.asking, self._clock.monotonic()
        self._looks, self._asking = (self._looks + 1 if asking == self._asking else 1), asking
        if self._hung is not None or asking is None or now - asking[1] < self._hang_s or self._looks < HANG_LOOKS:
            return []
        self._hung = asking
        text = f"the NVIDIA driver has not answered {asking[0]} for {human(now - asking[1])}"
        self._seen = Seen(nothing_known(self._seen.gpus, text), text, [])
        return [f"{text}; GPU figures are unknown, and the run may hang in it too"]
