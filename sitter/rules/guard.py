"""The guard: saves a run from ruin."""

import math
from typing import ClassVar

from sitter.model import Finding, Proposable
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.cases.guard import FIRES, QUIET
from sitter.rules.guard_patience import patience
from sitter.rules.guard_response import Response, Trip
from sitter.rules.guard_signs import CLEAN_POINTS, Bars, Sign, Signs, describe, gap
from sitter.rules.robust import WINDOW
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Rollback, SetKnob
from sitter_wire.events import Done, KnobChanged, Restored, SessionStart
from sitter_wire.records import Happening

SETTLE_POINTS = 5 * WINDOW
"""Points after which trouble that nobody did anything about is taken for usual, so that the guard is not blind for ever."""

SPARSE_STEPS = 10
"""Steps between two losses from which on the guard says how fast it can be."""


class Guard(Rule):
    """Goes back to a healthy state when loss or gradient blow up, and lets the training go on.

    It trips when the loss, the validation loss or the gradient norm is not finite; when the loss stands far above its usual level (more
    than 8 robust standard deviations, on a log scale, and 1.2 ×, above the median of the last 40 points) in 2 of the last 3 points;
    when it has left the level of its last 15 points (1.35 × and 5.5 times its noise in 3 of 5, or 1.5 × and 4 times in 4 of 5);
    when it stands 8 × above it and above where the run began; when the gradient norm does (8 deviations and 10 ×); or when training
    and validation loss both, and together, stand 1.3 × above the best they have been, at a rate that was not raised since.

    Most spikes heal. A loss that is finite, less than 8 × its usual level, and high for the first time is waited with, 5 logged points
    at a time, as long as it comes down by a quarter of what it stands too high; meanwhile no snapshot is overwritten.
    One that stays, grows, or becomes worse than that is acted on at once; one that stays while the validation loss is as usual is not.

    It puts back the newest healthy snapshot from at least 2 steps before the last healthy point. The data go on, so that a bad
    batch is not met again, and no knob is changed. Bad again at once: the batches are at fault; it waits for their end and goes back
    once more. Bad again within 30 steps: the rate is multiplied by 0.3, and given back after 20 healthy steps. If the scheduled rate
    itself jumped by more than 3 × to where it has never been, that is somebody's bug: it is divided out for as long as it lasts.

    At most 3 rollbacks an hour; after that it watches. A value that is not finite while the model is (a skipped step of mixed
    precision) leads to nothing. With ``kind="rl"`` or ``"gan"`` only values that are not finite act, since there the loss jumps by
    nature; with clipped gradients, with a gradient norm that is logged less than every 10th step, and below 100 × its usual level a
    gradient spike alone does not act: the loss must be suspicious too. It needs a loss (or a gradient norm)
    that is logged; with a sparsely logged one it is as slow as the log, and says so.

    What is tried on: five kinds of faults on small real tasks, and 291 published logs of healthy runs, see
    ``tests/benchmarks/guard_offline.py``.
    """

    name: ClassVar[str] = "guard"
    title: ClassVar[str] = "loss or gradient blew up"
    guard: ClassVar[bool] = True
    default_mode = "act"
    default_limit: ClassVar[str] = "3 per hour"
    FIRES = FIRES
    QUIET = QUIET
    memory: Signs

    class Params(RuleParams, frozen=True):
        """Thresholds; z are robust standard deviations on a log scale."""

        z: float = 8.0
        """Loss and gradient norm: above this is far from usual."""
        grad_factor: float = 10.0
        """A gradient norm must also stand so many times above its median."""
        loss_factor: float = 8.0
        """A loss so many times above its median trips at once …"""
        initial_factor: float = 1.2
        """… if it also stands so many times above where the run began."""
        suspicion_z: float = 4.0
        """Above this nothing is trusted: no snapshot is cleared, and the trouble is said to have begun there."""
        least_factor: float = 1.2
        """However calm the loss: less than so many times above its median is not far."""
        high_factor: float = 1.5
        """A loss so many times above its median, and suspicious, in 4 of the last 5 points trips."""
        shift_factor: float = 1.4
        """The median of the last 20 points may not stand so many times above the median of the 40 before them (and 8 deviations)."""
        both_factor: float = 1.3
        """Training and validation loss may not both stand so many times above their best, by the medians of 3 evaluations."""
        arm_points: int = 10
        """Points before z is believed."""
        early_points: int = 5
        """Points before ``loss_factor`` is."""
        margin: int = 2
        """Steps to go back before the last healthy point: the value logged at a step is older than the step's update."""
        again_steps: int = 30
        """Trouble so soon after a restore is the same trouble."""
        cut: float = 0.3
        """What the rate is multiplied by when going back was not enough."""
        healthy_steps: int = 20
        """Healthy steps after which the rate is given back."""
        rate_factor: float = 3.0
        """A scheduled rate so many times above its own past is somebody's bug."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        p = self.params
        self._bars = Bars(
            p.z, p.grad_factor, p.loss_factor, p.initial_factor, p.suspicion_z, p.least_factor, p.high_factor, p.shift_factor,
            p.both_factor, p.rate_factor, p.arm_points, p.early_points, max(0.0, min(p.z, p.suspicion_z)),
        )  # fmt: skip
        self.response = Response()
        self._said_reaction = False
        self._noted: int | None = None  # episode that was noted without acting
        self._asked: float | None = None  # factor on the rate that was asked for and has not been seen yet
        self._asks_at = 0  # judged point from which on it may be asked for again
        self._odd_step = 0
        self._say: list[Finding] = []

    @property
    def open_trip(self) -> bool:
        """Between a trip and the restore, or its end."""
        return self.response.trip is not None

    @property
    def suspicious(self) -> bool | None:
        """Of the newest sample."""
        return self.memory.odd

    def fresh(self) -> Signs:
        """Nothing seen."""
        return Signs()

    def spends(self, finding: Finding) -> bool:
        """Only rollbacks count; giving the rate back does not."""
        return any(isinstance(a, Rollback) for a in finding.actions)

    def limits(self, view: RunView) -> str:
        """Said in the header."""
        if self.memory.not_positive and "grad_norm" not in self.memory.seen:
            return "loss is not positive: only nan and inf are seen"
        if view.kind_by_names:
            return f'by what is logged this is kind="{view.kind}": only nan and inf act'
        return ""

    # -- signals ---------------------------------------------------------------------------------------------------------

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        signs, response = self.memory, self.response
        trip = response.trip
        sign = signs.take(sample.step, sample.values, self._bars, view, frozen=trip is not None)
        if trip is not None and trip.patience is not None and "val_loss" in sample.values:
            trip.patience.evaluated(sample.values["val_loss"])
        self._rate_seen(sample, view)
        if signs.odd is None:
            return self._queued() or self._rate_back(sample, view)
        response.judged(sample.step, signs.odd, main=signs.main)
        if signs.odd:
            self._odd_step = sample.step
        if trip is not None:
            return self._also_lost(trip, sign, sample) or self._in_trip(trip, sample)
        if signs.clean >= CLEAN_POINTS:
            response.excused = 0
        if sign is not None:
            return self._tripped(sign, sample, view) if sign.acts else self._note(sign, sample)
        if response.trouble and signs.clean >= CLEAN_POINTS:
            return self._recovered(sample)
        if self._say:
            return self._queued()
        if response.want == 1.0 and signs.held == 1.0 and self._said_reaction:
            return None  # as nearly always
        return self._rate_back(sample, view) or self._reaction(sample)

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Says what an event brought up, also where no point follows."""
        return self._queued()

    def _queued(self) -> Finding | None:
        return self._say.pop(0) if self._say else None

    # -- a trip ----------------------------------------------------------------------------------------------------------

    def _tripped(self, sign: Sign, sample: Sample, view: RunView) -> Finding:
        p, signs, response = self.params, self.memory, self.response
        onset = sample.step if signs.episode is None else signs.episode
        healthy = signs.healthy
        if sign.since is not None:
            onset, healthy = min(onset, sign.since), sign.since
        jump = signs.rate.jump(p.rate_factor) if response.usual_rate is None else None
        again = response.is_again(sample.step, p.again_steps)
        can_scale = "lr" in view.scales
        plan = response.plan(sign, onset, again, jump, can_scale, p.cut)
        if not response.trouble:
            response.trouble, response.onset = f"guard:{sample.branch}:{onset}", onset
        trip = response.trip = Trip(
            sign=sign, step=sample.step, branch=sample.branch, onset=onset, jump=jump, wait=plan.wait, want=plan.want,
            before=response.where(healthy, onset, p.margin, jump if can_scale else None),
            text=f"{describe(sign)} at step {sample.step:,}{plan.words}",
            lost=[sign.signal] if sign.kind == "nonfinite" else [],
        )  # fmt: skip
        if not again and jump is None and plan.wait == 0:
            trip.patience = patience(sign, signs.loss, p.loss_factor, signs.vals)
        return self._finding(trip, sample.step, act=plan.wait == 0 and trip.patience is None)

    def _also_lost(self, trip: Trip, sign: Sign | None, sample: Sample) -> Finding | None:
        """What is finite no more is said at its step, also where trouble is open already; what is done about it stays the same, but
        that it is done now."""
        if sign is None or sign.kind != "nonfinite" or sign.signal in trip.lost:
            return None
        trip.lost.append(sign.signal)
        text = f"{describe(sign)} at step {sample.step:,}, after {describe(trip.sign)} at step {trip.step:,}"
        if trip.patience is not None:
            trip.patience, trip.sign, trip.text = None, sign, text
            return self._finding(trip, sample.step, act=True)
        return self.found(
            "critical", text, step=sample.step, branch=sample.branch, onset=trip.onset, key=_key(trip),
            evidence={"signal": sign.signal, "value": sign.value}, suspicious=True,
        )  # fmt: skip

    def _in_trip(self, trip: Trip, sample: Sample) -> Finding | None:
        signs = self.memory
        if not signs.main:
            return None
        trip.points += 1
        if trip.wait > 0:
            # The batches are fine again, or time is up. Going back all the same: bad batches leave their mark on the optimizer's moments.
            trip.wait = 0 if signs.clean >= 2 else trip.wait - 1
            if trip.wait == 0:
                return self._finding(trip, sample.step, act=True)
        elif signs.clean >= CLEAN_POINTS and not (signs.shifted or signs.val_bad):
            return self._recovered(sample)
        elif trip.patience is not None and trip.points < SETTLE_POINTS:
            if not trip.patience.lasts(sample.values.get("loss", 0.0)):
                trip.patience, trip.text = None, f"{trip.text}, and it does not come back"
                return self._finding(trip, sample.step, act=True)
        elif trip.points >= SETTLE_POINTS and _finite(sample):
            signs.anew()
            self.response.over()
            return self.found(
                "warning", f"{trip.sign.signal} has not come back for {trip.points} points: taken for usual from here on",
                step=sample.step, branch=sample.branch, onset=trip.onset, evidence={RECOVERED: 0}, key=_key(trip),
            )  # fmt: skip
        elif trip.points >= trip.retry_at:
            return self._finding(trip, sample.step, act=True)
        return None

    def _finding(self, trip: Trip, step: int, *, act: bool) -> Finding:
        signs, response = self.memory, self.response
        actions: list[Proposable] = []
        text = trip.text
        if act:
            # A norm that is far off and finite says that the model is hit; one that is not finite may be a skipped step.
            doubt = trip.sign.kind == "nonfinite" and not signs.grad_odd
            actions.append(response.rollback(trip, signs.held, unless_finite=doubt))
        else:
            text += "; it is waited for as long as it falls" if trip.patience is not None else f"; goes back in {trip.wait} points"
        sign = trip.sign
        evidence: dict[str, float | int | str | None] = {
            "signal": sign.signal, "value": sign.value, "factor": sign.factor, "z": sign.z, "healthy_step": signs.healthy,
            "restores": response.restores,
        }  # fmt: skip
        if trip.jump is not None:
            evidence |= {"lr_usual": trip.jump.usual, "lr_factor": trip.jump.factor, "lr_since": trip.jump.step}
        return self.found(
            "critical" if trip.patience is None else "warning", text, step=step, branch=trip.branch, onset=trip.onset, evidence=evidence,
            actions=actions, key=_key(trip), suspicious=True,
        )  # fmt: skip

    def _note(self, sign: Sign, sample: Sample) -> Finding | None:
        """Seen, and not enough to act on: once per episode."""
        episode = self.memory.episode
        if episode == self._noted:
            return None
        self._noted = episode
        return self.found(
            "info", f"{describe(sign)} at step {sample.step:,}; nothing is done: {sign.why_not}", step=sample.step, branch=sample.branch,
            onset=sample.step if episode is None else episode, key=f"guard:noted:{sample.branch}:{episode}",
            evidence={"signal": sign.signal, "value": sign.value, "factor": sign.factor, "z": sign.z},
        )  # fmt: skip

    def _recovered(self, sample: Sample) -> Finding:
        response = self.response
        trip, lost = response.trip, response.steps_lost
        signal = trip.sign.signal if trip is not None else "loss"
        if response.restores and lost:
            text = f"{signal} is back at its usual level at step {sample.step:,}: recovered, {lost:,} steps lost"
        else:
            text = f"{signal} is back at its usual level at step {sample.step:,} by itself: nothing done"
        found = self.found(
            "info", text, step=sample.step, branch=sample.branch, onset=response.onset, evidence={RECOVERED: 1, "steps_lost": lost},
            key=_key(trip) if trip is not None else response.trouble,
        )  # fmt: skip
        response.over()
        return found

    def _reaction(self, sample: Sample) -> Finding | None:
        steps = self.memory.loss_steps
        if self._said_reaction or len(steps) < (steps.maxlen or 0):
            return None
        self._said_reaction = True
        every = gap(steps)
        if every < SPARSE_STEPS:
            return None
        return self.found(
            "info", f"loss is logged every {every:,} steps: the guard sees trouble up to {2 * every:,} steps after it began",
            step=sample.step, branch=sample.branch, evidence={"gap": every}, key="guard:reaction",
        )  # fmt: skip

    # -- the rate --------------------------------------------------------------------------------------------------------

    def _rate_seen(self, sample: Sample, view: RunView) -> None:
        """The rate without our own scale."""
        scheduled = sample.values.get("lr_scheduled")
        if scheduled is None:
            effective, scale = sample.values.get("lr"), view.scales.get("lr", 1.0)
            if effective is None or not scale:
                return
            scheduled = effective / scale
        response = self.response
        if response.usual_rate is not None:
            if response.bug_lasts(scheduled, self.params.rate_factor):
                return  # no part of what is usual
            response.want = 1.0
        self.memory.rate.record(sample.step, scheduled)

    def _rate_back(self, sample: Sample, view: RunView) -> Finding | None:
        """Bring what the guard has put on the rate to what it wants there; that is 1 once things are healthy."""
        signs, response = self.memory, self.response
        if response.want == 1.0 and signs.held == 1.0:
            return None
        if response.want != 1.0 and response.usual_rate is None and signs.episode is None and response.restored is not None:
            calm = sample.step - max(response.restored[1], self._odd_step if self._odd_step <= sample.step else 0)
            if calm >= self.params.healthy_steps and signs.clean >= CLEAN_POINTS:
                response.want = 1.0
        amount = response.want / signs.held
        if view.late or self._asked is not None or response.since < self._asks_at or abs(amount - 1.0) < 1e-6:
            return None  # asked twice it would be done twice: only an outcome ends the waiting
        self._asked = amount
        words = "what the guard had put on it is given back" if amount > 1.0 else "what the guard had put on it is put on again"
        branch, since = response.restored or (sample.branch, 0)
        return self.found(
            "info", f"lr × {amount:.3g}: {words}", step=sample.step, branch=sample.branch, key=f"guard:rate:{branch}:{since}",
            evidence={"held": signs.held, "want": response.want}, actions=[SetKnob(knob="lr", op="scale", amount=amount)],
        )  # fmt: skip

    # -- events ----------------------------------------------------------------------------------------------------------

    def happened(self, happening: Happening, view: RunView) -> None:
        """Restores, outcomes, the rate that was changed back, a new session."""
        event, response, signs = happening.event, self.response, self.memory
        if isinstance(event, Restored):
            self._asked = response.gone_back(event.branch, event.step, event.left, signs.held, signs.rate.now)
            signs.episode, signs.clean, signs.healthy = None, 0, event.step
            signs.far.clear()
            signs.high.clear()
            signs.excursion.forget()
            self._asks_at = 0
            self._odd_step = event.step
        elif isinstance(event, KnobChanged) and event.knob == "lr":
            self._rate_changed(event)
        elif isinstance(event, Done) and event.outcome.detail.get("finite") is True and response.trip is not None:
            self._not_the_model(response.trip, happening)
        elif isinstance(event, SessionStart):
            self.response, self._asked, self._asks_at = Response(), None, 0

    def _rate_changed(self, event: KnobChanged) -> None:
        """Our own change, told by who made it, or (approved, so that the operator made it) by how much."""
        factor = event.new / event.old if event.old > 0.0 else self._asked
        if factor is None or factor <= 0.0:
            return
        if event.by == f"rule:{self.name}" or (self._asked is not None and abs(factor / self._asked - 1.0) < 0.01):
            held = self.memory.held * factor
            self.memory.held = 1.0 if abs(held - 1.0) < 1e-6 else held
            self._asked = None

    def _not_the_model(self, trip: Trip, happening: Happening) -> None:
        excused = self.response.excused + 1
        self._say.append(self.found(
            "warning", f"{trip.text}: parameters and optimizer state are finite, the logged value is at fault and not the model",
            step=happening.step, branch=happening.branch, onset=trip.onset, key=_key(trip), evidence={RECOVERED: 1, "steps_lost": 0},
        ))  # fmt: skip
        self.response.over()
        self.response.excused = excused

    def refused(self, view: RunView) -> None:
        """What was proposed was not done: ask again a little later, if it is still so; each time after as long again."""
        self.response.refused()
        if self._asked is not None:
            self._asked, self._asks_at = None, self.response.since + max(WINDOW, self.response.since)

    def standing(self, view: RunView) -> Finding | None:
        """The trip that is open, with its action."""
        trip = self.response.trip
        if trip is None or trip.wait > 0 or trip.patience is not None:
            return None
        return self._finding(trip, view.step if view.step is not None else trip.step, act=True)


def _key(trip: Trip) -> str:
    return f"guard:{trip.branch}:{trip.onset}"


def _finite(sample: Sample) -> bool:
    return all(math.isfinite(sample.values[name]) for name in ("loss", "grad_norm") if name in sample.values)
