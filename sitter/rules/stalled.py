"""The training lives and makes no step."""

from typing import Any, ClassVar, Literal

from sitter.clock import human
from sitter.model import EndAndRestart, Finding, Notification, Proposable
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.cases.stalled import FIRES, QUIET
from sitter.rules.diagnosis import SILENT_S, Cause, Diagnosis, Signs, diagnose
from sitter.rules.pauses import Pauses
from sitter.rules.view import RunView, Sample
from sitter_wire.events import Paused, SessionStart
from sitter_wire.phases import AFTER, BEFORE, BETWEEN, LOADING, STEP
from sitter_wire.records import Happening

WITNESS_S = 25.0
"""So long the stacks are waited for: 5 s for the control thread, 3 s for faulthandler, 15 s for py-spy, each only where the one before it
had no answer. What is found without them is said without them."""
LEARNED_S = 3.0
"""Shorter silences of the control thread are the host's and the second's own."""
ANSWERS_S = 3.0
SEEN_S = 3.0
"""So long the process is looked at before it is said why its control thread is silent."""

PHASES = (LOADING, STEP, BETWEEN, BEFORE, "silent")
"""Each has pauses of its own; ``silent``: of the control thread, while some C code keeps the interpreter's lock."""


class Stalled(Rule):
    """Nothing comes from the training for longer than anything this run has done so far explains, and why.

    Evaluation, compilation and writing files make single steps 10 to 4,000 times longer than usual, so that a multiple of the step time
    cries wolf or is useless. The run's own pauses, learned for each phase of a turn, say what it can be silent for (see
    `sitter/rules/pauses.py`). What has never been seen yet, such as the first evaluation, is given time by what the process does: half an
    hour while it is busy, two minutes while it takes no CPU, makes no I/O and leaves the GPU idle. Told apart are: stopped (a signal,
    a debugger), hung (some C code keeps the interpreter's lock), waiting for input (the loader, stdin), not stepping, and slow. Before
    anything is said, the stacks of all threads are taken; the text names the line. It tells somebody; with `do = "restart"` it
    ends a training that hangs, waits for its loader or stands still (never one that is busy, nor one that somebody has stopped), so that it
    is started again from its newest good checkpoint.
    """

    name: ClassVar[str] = "stalled"
    title: ClassVar[str] = "no progress"
    default_mode = "act"  # it looks and tells somebody
    default_limit: ClassVar[str] = "6 per day"

    class Params(Rule.Params, frozen=True):
        """When, and what follows."""

        minutes: float = 30.0
        """A pause of a kind not seen yet, while the process is busy (SageMaker Debugger waits as long without output)."""
        still_minutes: float = 2.0
        """The same, while it does nothing at all."""
        start_minutes: float = 60.0
        """Before the first step of a session, and after the loop, while it is busy: loading, compiling, a last evaluation."""
        start_still_minutes: float = 10.0
        """The same, while it does nothing at all: a download waits now and then."""
        hung_seconds: float = 30.0
        """Silence of the control thread that no earlier one explains: sorting or pickling something huge takes seconds."""
        stopped_seconds: float = 10.0
        """Stopped by a signal for so long: a debugger's or a profiler's look is shorter."""
        do: Literal["notify", "restart"] = "notify"
        """``restart``: as `stop --now`, and started again where the run was begun with `--restart`."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self.pauses = {phase: Pauses() for phase in PHASES}
        self._last: float | None = None
        self._began: float | None = None
        self._silent = 0.0
        self._odd = False  # the present pause is not the run's own: it was stopped
        self._stopped_at: float | None = None
        self._busy_at: float | None = None
        self._asked: float | None = None
        self._said: Cause | None = None
        self.stands = ""
        """What was said of a training that still stands; empty: it goes on."""
        self._age = 0.0
        self._times = 0

    # -- what is usual ---------------------------------------------------------------------------------------------------

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """Learn how long this run can be silent, by phase."""
        time, values, pauses = sample.time, sample.values, self.pauses
        took = values.get("step_time")
        if took is None and view.phase:
            return None  # the script's own values: the safe point's follow
        between = 0.0 if self._last is None else time - self._last
        if self._began is not None:
            pauses[BEFORE].add(time - self._began)
            self._began = None
        elif not self._odd and not view.paused:
            if took is None:
                pauses[STEP].add(between)
            else:
                waited = values.get("data_wait", 0.0)
                pauses[LOADING].add(waited)
                pauses[STEP].add(took - waited)
                if between - took > LEARNED_S:
                    pauses[BETWEEN].add(between - took)
        self._odd = False
        self._last = time
        return None

    def happened(self, happening: Happening, view: RunView) -> None:
        """The time a process was away, or was held, is no pause of its own."""
        if isinstance(happening.event, SessionStart | Paused):
            self._last = None
        if isinstance(happening.event, SessionStart):
            self._forget()
            self._began = happening.time / 1e9

    def knowledge(self) -> Any:
        """The pauses: a new daemon would otherwise know those of the last 5,000 points only."""
        return {phase: [p.longest, list(p.bins.items())] for phase, p in self.pauses.items() if p.bins}

    def know(self, told: Any) -> None:
        """In place of what it has learned from the last points, which is part of it."""
        for phase, (longest, bins) in told.items():
            if phase in self.pauses:
                known = self.pauses[phase] = Pauses()
                known.recall(float(longest), {int(place): int(count) for place, count in bins})

    # -- every second ----------------------------------------------------------------------------------------------------

    @property
    def wants_stacks(self) -> bool:
        """Something is to be said, and first it is looked where the training stands."""
        return self._asked is not None and self._said is None

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Look, learn, and say it once."""
        if not view.in_session or view.paused:
            self._forget()
            return None
        age = self._age_of(view, now)
        self._learn_silence(view)
        if self._goes_on(view, age):
            self._stopped_at, self._busy_at, self._asked = None, now, None
            return None
        signs = self._signs(view, now)
        found = diagnose(signs)
        self._odd = self._odd or found.cause in ("stopped", "gone")
        self._note(found, signs, age, now)
        if self._said is not None:
            return self._afterwards(view, age, found)
        if not self._is_due(found, signs, age, now, view):
            self._asked = None
            return None
        if self._asked is None:
            self._asked = now
            return None
        if now - self._asked < WITNESS_S and not (view.stood is not None and view.stood.at >= self._asked):
            return None
        return self._say(view, age, found, signs)

    def _goes_on(self, view: RunView, age: float) -> bool:
        """As in nearly every second: it answers, it steps, and nobody looks at the process. Then no cause could be said of anything."""
        if self._said is not None or view.vitals is not None or (view.agent_age or 0.0) > SILENT_S:
            return False
        return bool(age <= 60.0 * min(self.params.minutes, self.params.start_minutes))

    def _age_of(self, view: RunView, now: float) -> float:
        if view.safe_point_age is not None:
            return view.safe_point_age
        return now - view.started if view.started is not None else 0.0

    def _signs(self, view: RunView, now: float) -> Signs:
        gpus = [g.util for g in view.gpus if g.used_by_run is not False and g.util is not None]
        stood = view.stood if view.stood is not None and self._asked is not None and view.stood.at >= self._asked else None
        return Signs(
            silent=view.agent_age, phase=view.phase, vitals=view.vitals, gpu=max(gpus) if gpus else None,
            innermost=stood.innermost if stood else [], where=stood.where if stood else "",
        )  # fmt: skip

    def _learn_silence(self, view: RunView) -> None:
        silent = view.agent_age or 0.0
        if silent < self._silent and self._silent > LEARNED_S and not self._odd:
            self.pauses["silent"].add(self._silent)
        self._silent = silent

    def _note(self, found: Diagnosis, signs: Signs, age: float, now: float) -> None:
        """Since when it has been stopped, and when it last did something, within this pause."""
        if found.cause != "stopped":
            self._stopped_at = None
        elif self._stopped_at is None:
            self._stopped_at = now
        began = now - age
        self._busy_at = max(began, self._busy_at) if self._busy_at is not None else began
        if found.cause == "slow" or signs.vitals is None:
            self._busy_at = now

    def _is_due(self, found: Diagnosis, signs: Signs, age: float, now: float, view: RunView) -> bool:
        p = self.params
        if found.cause == "gone":
            return False  # how it ended is another's to say
        if found.cause == "stopped":
            return self._stopped_at is not None and bool(now - self._stopped_at >= p.stopped_seconds)
        if found.cause == "hung":
            silent, patience = view.agent_age or 0.0, max(p.hung_seconds, self.pauses["silent"].explains())
            seen = view.vitals is not None and view.vitals.seconds >= SEEN_S
            return bool(silent > patience and (seen or silent > patience + WITNESS_S))
        outside = view.safe_point_age is None or view.phase == AFTER
        patience = (p.start_minutes if outside else p.minutes) * 60.0
        if age > max(patience, self._explains(view)):
            return True
        still = (p.start_still_minutes if outside else p.still_minutes) * 60.0
        busy_at = self._busy_at if self._busy_at is not None else now
        return bool(found.cause != "slow" and now - busy_at > still and age > self._explains(view))

    def _explains(self, view: RunView) -> float:
        """Seconds that this run's phase explains. Where the script turns its own loop all of it is the step."""
        if view.safe_point_age is None:
            return self.pauses[BEFORE].explains()
        if view.phase in (LOADING, BETWEEN):
            return self.pauses[view.phase].explains()
        return self.pauses[STEP].explains()

    # -- saying it -------------------------------------------------------------------------------------------------------

    def _say(self, view: RunView, age: float, found: Diagnosis, signs: Signs) -> Finding:
        self._said, self._age, self._times = found.cause, age, self._times + 1
        where = signs.where
        text = f"{self._what(view, age, found)}: {found.evidence}"
        text += f". It stands at {where}" if where else ""
        if found.cause == "slow":
            text += f". Maybe it is only slow: {self._usual(view)}"
        self.stands = text
        v = view.vitals
        evidence: dict[str, float | int | str | None] = {
            "cause": found.cause, "seconds": age, "silent": view.agent_age, "phase": view.phase or None, "explained": self._explains(view),
            "cpu": v.cpu if v else None, "io": v.io if v else None, "gpu": signs.gpu, "where": where or None,
            "stacks": view.stood.path if where and view.stood is not None else None,
        }  # fmt: skip
        actions: list[Proposable] = [Notification(event="stalled", text=text)]
        if self.params.do == "restart" and found.cause in ("hung", "waiting for input", "not stepping") and "stdin" not in found.evidence:
            actions.append(EndAndRestart(why=f"{found.cause}: {found.evidence}"))
        return self.found(
            "warning" if found.cause == "slow" else "critical", text, step=view.step or 0, branch=view.branch, evidence=evidence,
            actions=actions, key=f"{self.name}:{self._times}",
        )  # fmt: skip

    def _what(self, view: RunView, age: float, found: Diagnosis) -> str:
        step = f"step {view.step or 0:,}"
        if found.cause == "hung":
            return f"hung for {human(view.agent_age or age)} at {step}"
        if found.cause == "stopped":
            return f"stopped at {step}, and no step for {human(age)}"
        place = {BEFORE: " before the first one", AFTER: " after the loop", BETWEEN: " between two passes"}.get(view.phase, "")
        word = {"waiting for input": "waits for input", "not stepping": "stands still", "slow": "is slow"}[found.cause]
        return f"no step for {human(age)}{place} at {step}, the process {word}"

    def _usual(self, view: RunView) -> str:
        phase = view.phase if view.phase in self.pauses else STEP
        longest = self.pauses[phase].longest
        return f"its longest pause of this kind so far was {human(longest)}" if longest >= 1.0 else "its first pause of this length"

    def _afterwards(self, view: RunView, age: float, found: Diagnosis) -> Finding | None:
        answers = view.agent_age is not None and view.agent_age < ANSWERS_S
        freed = self._said in ("stopped", "hung") and found.cause not in ("stopped", "hung", "gone") and answers
        if age >= self._age and not freed:
            self._age = age
            return None
        said, lasted = self._said, self._age
        self._said, self._asked, self.stands = None, None, ""
        how = "answers again" if freed and age >= lasted else "goes on"
        return self.found(
            "info", f"it {how} after {human(lasted)} without a step ({said})", step=view.step or 0, branch=view.branch,
            evidence={RECOVERED: 1, "seconds": lasted}, key=f"{self.name}:{self._times}",
        )  # fmt: skip

    def _forget(self) -> None:
        """There is nothing to be judged now."""
        self._said, self.stands = None, ""
        self._asked = self._stopped_at = self._busy_at = None
        self._silent, self._odd = 0.0, True


Stalled.FIRES, Stalled.QUIET = FIRES, QUIET
