"""What the logbook says when the training died: why, its last words, and what follows."""

import msgspec

from sitter.clock import Clock
from sitter.control.core import Core
from sitter.model import ExitNow, State
from sitter.rules.xids import describe
from sitter.store.reader import Reader
from sitter.supervise.attempts import ATTEMPTS
from sitter.supervise.death import Death, examine, in_words
from sitter.supervise.pending import Attempt, read_attempts

TOLD = "attempts_told"
"""Kept in the history: when those attempts began, in unix seconds, that are in the logbook. (When the last of them ended would not do: the
clock may be turned back.)"""
LOOK_S = 10.0
"""While the same process lives, nothing comes to the attempts but by mistake."""
XID_S = 300.0
"""A GPU error so long before the end is named beside it."""
KEPT_ALARMS = 20
"""A GPU that is lost reports the same again and again."""
BY_EXCEPTION = "an exception ended it"
NO_GOOD_BYE = "without a good-bye: maybe it was killed, and the script that it was started by ended with exit code 0 all the same"
ALL_WELL = "though the command that it was started by ended with exit code 0, and so it is not started again"


class Obituary:
    """Of every attempt that was followed by another, and of the last."""

    def __init__(self, core: Core, reader: Reader, clock: Clock) -> None:
        self._core, self._clock = core, clock
        self._told: list[float] = list(reader.get(TOLD) or [])
        self._stamp = 0
        """Of the file of attempts when it was read last, nanoseconds."""
        self._pid: int | None = None
        """The process that lived at the last look, and when that was (monotonic seconds)."""
        self._looked = 0.0
        self._alarms: list[tuple[float, str]] = []
        """What the driver reported, newest last; unix seconds."""

    def alarm(self, text: str) -> None:
        """The driver reported something; it may turn out to have been the cause."""
        self._alarms = [*self._alarms, (self._clock.wall(), text)][-KEPT_ALARMS:]

    def tick(self) -> None:
        """Write down attempts that have ended and are followed by another; also those that nobody was there to see."""
        core, pid, now = self._core, self._core.life.pid, self._clock.monotonic()
        if pid is not None and pid == self._pid and now - self._looked < LOOK_S:
            return
        self._pid, self._looked = pid, now
        try:
            stamp = (core.run.path / ATTEMPTS).stat().st_mtime_ns
        except OSError:
            return
        if stamp == self._stamp:
            return
        self._stamp = stamp
        attempts = read_attempts(core.run).attempts
        for attempt in attempts:
            if attempt.ended is not None and attempt.then and attempt.started not in self._told:
                self._told = [a.started for a in attempts if a.started in (*self._told, attempt.started)]
                core.keep(TOLD, self._told)
                self._restarted(attempt)

    def _restarted(self, attempt: Attempt) -> None:
        core = self._core
        death = examine(
            core.run.train_log, code=attempt.code, number=attempt.signal, pid=attempt.pid, ended=attempt.ended, span=attempt.log,
            oom_kills=attempt.oom_kills, error=attempt.error,
        )  # fmt: skip
        text = f"{core.run.name}: crashed {_at(attempt.step)}, {self._with_xids(death, attempt.ended)}"
        self._write(text, death, step=attempt.step, time=attempt.ended)
        branch = core.present.branch
        core.log_entry("restart", step=attempt.step, branch=branch, status="restarting", detail=attempt.then, time=attempt.ended)
        for incident in core.incidents.open:
            core.incidents.over(incident.rule, "open when the run crashed")
        core.tell("crashed", f"{text}; {attempt.then}", f"crashed {attempt.started}")

    def last(self, state: State, exit_: ExitNow | None, step: int | None) -> str:
        """Write down the last end; the sentence that notifications carry."""
        core = self._core
        began = f"{core.run.name}: {state} {_at(step)}"
        exit_ = exit_ or ExitNow(code=None, signal=None)
        why = f"; {exit_.given_up}" if exit_.given_up else ""
        if state != "crashed":
            how = f", {in_words(exit_.code, exit_.signal)}" if exit_.time is not None else ""
            text = f"{began}{self._short(step) if state == 'finished' else ''}{how}{why}"
            core.log_entry("note", step=step, branch=core.present.branch, status=state, detail=text)
            return text
        died = core.present.session.why if core.present.session is not None else ""
        death = examine(
            core.run.train_log, code=exit_.code, number=exit_.signal, pid=exit_.pid, ended=exit_.time, span=exit_.log,
            oom_kills=exit_.oom_kills, error=exit_.error or died,
        )  # fmt: skip
        if died and exit_.signal is None and not exit_.code:
            death = msgspec.structs.replace(death, how=BY_EXCEPTION if exit_.code is None else f"{BY_EXCEPTION}, {ALL_WELL}")
        text = f"{began}, {self._with_xids(death, exit_.time)}{why}"
        self._write(text, death, step=step, time=None)
        return text

    def _short(self, step: int | None) -> str:
        """What its command calls an end, though there were steps to come."""
        total, session = self._core.present.total, self._core.present.session
        if step is None or total is None or step >= total:
            return ""
        silent = session is not None and session.goodbye is None
        return f" of {total:,}{f' ({NO_GOOD_BYE})' if silent else ''}"

    def _with_xids(self, death: Death, ended: float | None) -> str:
        heard = [text for at, text in self._alarms if ended is not None and 0 <= ended - at + 10.0 <= XID_S]
        said = heard or [describe(x) for x in dict.fromkeys(death.xids)]
        return "; ".join([death.sentence(), *said])

    def _write(self, text: str, death: Death, *, step: int | None, time: float | None) -> None:
        branch = self._core.present.branch
        self._core.log_entry("incident", step=step, branch=branch, status="crashed", detail=text, time=time)
        if death.lines:
            lines = "\n".join(["the last lines of train.log:", *(f"  {line}" for line in death.lines)])
            self._core.log_entry("note", step=step, branch=branch, status="last words", detail=lines, time=time)
        if death.kernel:
            self._core.log_entry("note", step=step, branch=branch, status="kernel", detail="\n".join(death.kernel), time=time)


def _at(step: int | None) -> str:
    return "before it told a step" if step is None else f"at step {step:,}"
