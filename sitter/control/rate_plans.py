"""After a rule has changed a knob: a warm-up to the new level; giving back what was cut, once all was well for long enough."""

import logging
import math
from collections.abc import Callable
from typing import Any

import msgspec

from sitter.control.dispatcher import Dispatcher
from sitter.control.life import Life
from sitter.control.orders import Done, Orders
from sitter.control.present import Present
from sitter.control.rate_plan import BACK, CLOSE, FIRST_SHARE, STAGES, UNDO, Plan
from sitter.grammar import spelled
from sitter.model import Finding
from sitter.rules.engine import Engine
from sitter_wire.commands import AnyAction, Outcome, SetKnob
from sitter_wire.events import KnobChanged, Restored
from sitter_wire.records import Point, Record

log = logging.getLogger(__name__)

RATE_PLANS = "rate_plans"
"""What ``RatePlans`` keeps for the next daemon."""
LEAD_S = 2.0
"""So long before its step an order is sent, and waits in the training process, so that a quick run meets it there. Where the operator
changes the knob meanwhile, it is taken back."""
REMEMBERED = 8
"""Finished plans that are remembered."""


class RatePlans:
    """Told of every outcome of a rule's action and of every record; ``tick`` once a second. All on the loop's thread.

    A plan ends when the operator changes its knob, and when its rule may no longer act. A restore does not put scales back (DESIGN §6),
    so a warm-up goes on from where the restore led; what was cut before that state's time is not given back by itself. Another process
    has the knob as its checkpoint says: a plan goes on from there, also one that was finished after that checkpoint was written (the
    rate would stay low for ever); where the checkpoint is of before the change, it ends, and the knob stands as it did then.
    """

    def __init__(
        self,
        *,
        present: Present,
        engine: Engine,
        dispatcher: Dispatcher,
        orders: Orders,
        life: Life,
        acted: Callable[[Finding, AnyAction], Done],
        log_entry: Callable[..., None],
        keep: Callable[[str, object], None],
        when_safe: Callable[[Callable[[], None]], None],
    ) -> None:
        """``acted`` makes what is called with the outcome of an order, and calls ``acted`` of here in turn. ``when_safe``: as of
        ``Orders.give``; a stage that the next daemon does not know of would be carried out twice."""
        self._when_safe = when_safe
        self._present, self._engine, self._dispatcher = present, engine, dispatcher
        self._orders, self._life, self._done, self._log, self._keep = orders, life, acted, log_entry, keep
        self._plans: dict[str, Plan] = {}
        self._made = 0
        self._acts = False  # a command that only looks at a run never ticks, and orders nothing
        self._stepped: str | None = None  # the session of which a step was seen: what its knobs are is known

    def restore(self, kept: list[Any] | None) -> None:
        """What an earlier daemon had still to do."""
        try:
            self._plans = {plan.key: plan for plan in msgspec.convert(kept or [], list[Plan])}
        except msgspec.ValidationError as e:  # of another version
            log.warning("what an earlier daemon had planned for knobs is not understood: %s", e)

    # -- told ------------------------------------------------------------------------------------------------------------

    def acted(self, finding: Finding, action: AnyAction, outcome: Outcome | None) -> None:
        """What became of a rule's action: one of ours, or one that something is to follow."""
        plan = self._plans.get(finding.key)
        if plan is not None and plan.rule == finding.rule and isinstance(action, SetKnob):
            self._answered(plan, finding.evidence.get("stage"), action, outcome)
            self._save()
        elif outcome is not None and outcome.status == "applied" and finding.afterwards is not None and isinstance(action, SetKnob):
            self._begin(finding, action, outcome)

    def record(self, record: Record) -> None:
        """Every record, in order."""
        if not self._plans:
            return
        if isinstance(record, Point):
            self._stepped = self._present.session.id if self._present.session else None
            return
        event = record.event
        for plan in list(self._plans.values()):
            if isinstance(event, KnobChanged):
                self._changed(plan, event)
            elif isinstance(event, Restored):
                self._restored(plan, event)

    def tick(self) -> None:
        """What is due."""
        self._acts = True
        if self._plans:
            for plan in list(self._plans.values()):
                self._go_on(plan)

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _begin(self, finding: Finding, action: SetKnob, outcome: Outcome) -> None:
        after, spec = finding.afterwards, self._present.specs.get(action.knob)
        old, new = (_number(outcome.detail.get(key)) for key in ("old", "new"))
        if after is None or old is None or new is None:
            return
        kind = spec.scale if spec is not None else "log"
        base, now = (1.0 - old, 1.0 - new) if kind == "log1m" else (old, new)
        first = max(FIRST_SHARE, spec.low / new if spec is not None and new > 0.0 else 0.0)
        ramps = after.warmup > 0 and kind in ("log", "linear") and new > 0.0 and first < 1.0
        stages = min(STAGES, after.warmup) if ramps else 0
        self._made += 1
        plan = Plan(
            key=f"{finding.rule}:after:{outcome.branch}:{outcome.step}:{self._made}", rule=finding.rule,
            knob=action.knob, group=action.group, step=outcome.step, old=old, new=new,
            warmup=after.warmup, stages=stages, reached=-1 if ramps else stages, first=first, anchor=outcome.step,
            back_after=after.back_after, back=base / now if now else 1.0, since=(outcome.branch, outcome.step),
            session=self._present.session.id if self._present.session else "", scale=_number(outcome.detail.get("scale")),
        )  # fmt: skip
        for other in [p for p in self._plans.values() if p.finished and (p.knob, p.group) == (plan.knob, plan.group)]:
            self._drop(other)  # from here on the knob's scale tells nothing of it
        words = [f"a warm-up over {after.warmup:,} steps from {first:.0%} of {new:g} follows"] if ramps else []
        if after.warmup and not ramps:
            words.append("no warm-up: only a positive value that moves by factors, and is not at its lower bound, can have one")
        if after.back_after:
            words.append(f"what was changed is given back after {after.back_after:,} healthy steps in a row")
        self._say(plan, "planned", f"{plan.change}: {', and '.join(words)}")
        self._plans[plan.key] = plan
        self._go_on(plan)
        self._save()

    def _go_on(self, plan: Plan) -> None:
        """Ask for the next thing, where it is due and nothing is on its way."""
        session = self._present.session
        if not (self._acts and self._life.alive and self._life.speaks) or self._present.paused or session is None:
            return
        plan.session = plan.session or session.id  # kept by a version that did not know
        if plan.session != session.id:
            self._taken_up(plan, session.id)
        elif plan.finished:
            return
        elif plan.over:
            self._end(plan, plan.over)
        elif self._dispatcher.mode_of(plan.rule) in ("off", "watch"):
            self._end(plan, f"rule {plan.rule} may not act any more")
        elif plan.asked and not self._waits(plan):
            self._end(plan, "whether its last order was carried out is not known")
        elif plan.asked and (plan.moved or plan.reached < 0 or not plan.warming):
            return
        elif plan.warming:
            self._warm_up(plan)
        elif plan.back_after:
            self._give_back(plan)
        else:
            self._finish(plan)

    def _taken_up(self, plan: Plan, session: str) -> None:
        """Another process lives: where its knob stands is known with its first step, once the orders of the one before have expired."""
        if self._stepped != session or self._waits(plan):
            return
        present, plan.session = self._present, session
        step, branch = present.step or 0, present.branch or 0
        scale, held = present.scales.get(plan.knob, (None, False))
        alone = [p for p in self._plans.values() if p.knob == plan.knob and not p.finished and p is not plan] == []
        if plan.over or scale is None or held or plan.scale is None or plan.group is not None or not alone:
            self._end(plan, "another process has begun")
        elif plan.goes_on_at(scale / plan.scale, branch, step):
            follows = "the warm-up goes on" if plan.warming else "what was changed is still to be given back" if plan.back_after else ""
            if follows:
                at = f"another process goes on at step {step:,} with {plan.share:.0%} of {plan.new:g}"
                self._say(plan, "goes on", f"{plan.change} at step {plan.step:,}: {at}: {follows} from there")
        elif plan.finished:
            self._drop(plan)
        elif math.isclose(scale, plan.scale * plan.back, rel_tol=CLOSE):
            self._end(plan, f"another process has begun, in which {plan.knob} stands as it did before that", left=False)
        else:
            self._end(plan, f"another process has begun, in which {plan.knob} stands at {scale:g} × its schedule")
        self._save()

    def _finish(self, plan: Plan) -> None:
        """All of it was done."""
        plan.finished = True
        done = [p.key for p in self._plans.values() if p.finished]
        for key in done[:-REMEMBERED]:
            del self._plans[key]
        self._save()

    def _warm_up(self, plan: Plan) -> None:
        """Down at once; the way up is asked for once that was done, each stage a little before its step. What is late makes the rest
        as much later: the rate never jumps."""
        step, rate = self._present.step or 0, self._present.rate.per_s()
        what = f"warm-up after {plan.knob} {plan.old:g} → {plan.new:g} at step {plan.step:,}"
        if plan.stage == 0:
            plan.stage = 1
            self._ask(plan, 0, plan.first, f"{what}: to {plan.first:.0%} of it")
            return
        lead = plan.warmup // plan.stages if rate is None else max(1, int(LEAD_S * rate))
        if plan.stage <= plan.stages and not plan.asked:
            plan.anchor += max(0, step - plan.due(plan.stage))
        while plan.stage <= plan.stages and plan.due(plan.stage) <= step + lead:
            stage, share, plan.stage = plan.stage, plan.share_at(plan.stage), plan.stage + 1
            text = f"{what}: to {share:.0%} of it ({stage} of {plan.stages})"
            self._ask(plan, stage, share / plan.share_at(stage - 1), text, plan.due(stage))

    def _give_back(self, plan: Plan) -> None:
        healthy = self._engine.healthy_steps_since(*plan.since)
        if healthy < plan.back_after:
            return
        text = f"{healthy:,} healthy steps in a row: {plan.knob} {plan.old:g} → {plan.new:g} of step {plan.step:,} is given back"
        finding = self._finding(plan, BACK, plan.back, text)
        why = self._dispatcher.arbiter.outdone(finding, self._dispatcher.proposals.values())
        if not why:
            self._dispatcher.arbiter.done(finding, f"rule:{plan.rule}")
            self._ask(plan, BACK, plan.back, text)
        elif not plan.outdone:
            self._say(plan, "outdone", f"{text}, but later: {why}")
        plan.outdone = bool(why)

    def _ask(self, plan: Plan, stage: int, factor: float, text: str, at: int | None = None) -> None:
        session = self._present.session
        if session is None:
            return
        finding = self._finding(plan, stage, factor, text, at)
        (action,) = finding.actions
        plan.asked.append(stage)
        self._save()
        self._say(plan, "sent", text, spelled(action))
        assert isinstance(action, SetKnob)
        self._orders.give(
            action, session=session.id, by=f"rule:{plan.rule}", branch=self._present.branch, done=self._done(finding, action),
            finding=finding, when_safe=self._when_safe,
        )  # fmt: skip

    def _finding(self, plan: Plan, stage: int, factor: float, text: str, at: int | None = None) -> Finding:
        """For whose sake an order is given; its key leads back to the plan, also in the next daemon."""
        step, action = self._present.step or 0, SetKnob(knob=plan.knob, op="scale", amount=factor, group=plan.group)
        return Finding(
            rule=plan.rule, severity="info", step=step, branch=self._present.branch or 0, onset=plan.step, text=text, key=plan.key,
            actions=[action], at=at, evidence={"stage": stage},
        )  # fmt: skip

    def _answered(self, plan: Plan, stage: object, action: SetKnob, outcome: Outcome | None) -> None:
        plan.asked = [other for other in plan.asked if other != stage]
        again, plan.moved = plan.moved, plan.moved and bool(plan.asked)
        if outcome is None:
            self._end(plan, "whether its last order was carried out is not known")
        elif outcome.status == "applied":
            self._applied(plan, stage, action.amount, outcome)
        elif plan.over:
            self._end(plan, plan.over)
        elif again or outcome.status == "expired":
            plan.stage = min(plan.stage, plan.reached + 1)
        elif stage == 0:
            plan.reached, plan.stage = plan.stages, plan.stages + 1  # without the warm-up; what was cut may still be given back
        else:
            self._end(plan, f"{outcome.status}: {outcome.text}")

    def _applied(self, plan: Plan, stage: object, factor: float, outcome: Outcome) -> None:
        if plan.by_hand and stage != UNDO:
            self._ask(plan, UNDO, 1.0 / factor, f"{plan.over}: what was on its way is taken back")
            return
        if plan.over:
            self._end(plan, plan.over)
            return
        if stage == BACK:
            self._finish(plan)
            return
        if stage == 0:
            plan.anchor = outcome.step
        plan.share, plan.reached, plan.since = plan.share * factor, int(str(stage)), (outcome.branch, outcome.step)
        self._go_on(plan)

    def _changed(self, plan: Plan, event: KnobChanged) -> None:
        """Ended by the operator's hand. What made the plan is none, also where the operator had approved it."""
        made_it = math.isclose(event.old, plan.old, rel_tol=1e-6) and math.isclose(event.new, plan.new, rel_tol=1e-6)
        if event.by == "operator" and event.knob == plan.knob and not made_it:
            plan.by_hand = True
            self._end(plan, f"the operator set {plan.knob} to {event.new:g}")

    def _restored(self, plan: Plan, event: Restored) -> None:
        if plan.finished:
            return
        plan.moved = bool(plan.asked)
        plan.since = (event.branch, event.step)
        words = []
        if plan.warming:
            plan.anchor = event.step - plan.warmup * max(0, plan.reached) // plan.stages
            words.append("the warm-up goes on from there")
        if event.step < plan.step and plan.back_after:
            plan.back_after = 0
            words.append("what was cut stays cut, and is not given back by itself")
        if words:
            self._say(plan, "went back", f"the training went back to step {event.step:,}: {', and '.join(words)}")
        self._save()

    def _end(self, plan: Plan, why: str, *, left: bool = True) -> None:
        """Nothing more follows; said, with what is ``left`` undone. Where something is on its way its answer is waited for."""
        if plan.finished:
            self._drop(plan)
            return
        if not plan.over:
            plan.over, left = why, left and plan.warming and plan.share < 1.0
            what = "the warm-up" if plan.warming else "giving it back"
            stays = f"; {plan.knob} stays at {plan.share:.0%} of {plan.new:g}" if left else ""
            self._say(plan, "ended", f"{what} after {plan.change} at step {plan.step:,} ends: {why}{stays}")
        if not self._waits(plan):
            self._drop(plan)

    def _waits(self, plan: Plan) -> bool:
        """Whether an order of its has no answer yet."""
        return any(s.order.finding is not None and s.order.finding.key == plan.key for s in self._orders.standing())

    def _drop(self, plan: Plan) -> None:
        self._plans.pop(plan.key, None)
        self._save()

    def _say(self, plan: Plan, status: str, text: str, action: str | None = None) -> None:
        present = self._present
        self._log(
            "command", step=present.step, branch=present.branch, rule=plan.rule, action=action or f"set {plan.knob}", status=status,
            detail=text,
        )  # fmt: skip

    def _save(self) -> None:
        self._keep(RATE_PLANS, list(self._plans.values()))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
