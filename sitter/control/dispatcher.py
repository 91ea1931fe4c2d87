"""From finding to action: mode, snooze, budget, cool-down, delay, answer. A rule never acts; this decides, and says so."""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from sitter.clock import Clock, human
from sitter.control.arbiter import DEEDS, Arbiter
from sitter.control.joint import alike, everyone, joined, without
from sitter.control.ruleset.settings import RuleSetting, effective
from sitter.model import EntryKind, Finding, Incident, Mode, Preset, Proposable, Proposal
from sitter_wire.commands import Rollback

log = logging.getLogger(__name__)

LONGEST_SNOOZE_S = 366 * 86400.0
REMEMBERED = 64
"""Proposals that are over."""
COOL_DOWN_S = 60.0
"""Between two unasked actions of one rule that is not part of the guard, whose own response paces it."""
SET_S = 1.0
"""The two clocks part by so much where one was set."""


class Hands(Protocol):
    """What the dispatcher needs done."""

    def act(self, finding: Finding, by: str) -> None:
        """Carry out the finding's actions; ``by`` is ``rule:NAME`` or ``operator``."""
        ...

    def log(self, kind: EntryKind, finding: Finding, status: str, detail: str) -> None:
        """A line for the logbook."""
        ...

    def spends(self, finding: Finding) -> bool:
        """Whether doing this counts against its rule's budget."""
        ...

    def budget_spent(self, finding: Finding) -> None:
        """A rule wanted to act and may not any more."""
        ...

    def refused(self, rule: str) -> None:
        """What this rule proposed was vetoed, or outdone: it need not wait for an outcome."""
        ...

    def keep(self, key: str, value: object) -> None:
        """Remember beyond this process."""
        ...


KEPT = ("proposals", "proposed", "declined", "acted", "snoozed", DEEDS)
"""What ``restore`` wants of what ``Hands.keep`` kept."""


class Dispatcher:
    """Proposals, and who may act how often. All on the loop's thread."""

    def __init__(self, settings: dict[str, RuleSetting], preset: Preset, clock: Clock, hands: Hands) -> None:
        self.settings, self.preset = settings, preset
        self._clock, self._hands = clock, hands
        self.arbiter = Arbiter(clock, lambda rule: rule in self.settings and self.settings[rule].guard, hands.keep)
        self.proposals: dict[str, Proposal] = {}
        self.snoozed: dict[str, float] = {}
        """rule → until when (unix seconds), for people and for the next daemon; ``_wakes`` is what counts, by the monotonic clock."""
        self._wakes: dict[str, float] = {}
        self._acted: dict[str, deque[float]] = {name: deque() for name in settings}
        """Of each rule: when it acted unasked, as far as that counts against its budget (unix seconds: a budget outlives the host)."""
        self._declined: dict[str, str] = {}
        """Keys of findings that propose nothing any more, and why: ``veto`` or ``budget``."""
        self._due: dict[str, float] = {}
        """Of each proposal with a delay: when it is carried out, monotonic seconds."""
        self._ended: dict[str, str] = {}
        """Proposals that are not open any more, and what became of them: whoever answers one late is told."""
        self._proposed = 0
        self._apart = clock.wall() - clock.monotonic()

    # -- from the rules ------------------------------------------------------------------------------------------------

    def finding(self, finding: Finding, *, late: bool = False) -> None:
        """Write it down, and see what it may lead to."""
        mode = self.mode_of(finding.rule)
        if mode == "off":
            return
        self._hands.log("finding", finding, "late" if late else finding.severity, finding.text)
        if late or not finding.actions or mode == "watch" or self._is_declined(finding):
            return
        if self._is_snoozed(finding.rule):
            self._hands.log("finding", finding, "snoozed", "proposes nothing: the rule is snoozed")
            return
        if mode == "act":
            self._unasked(finding)
        elif why := self.arbiter.done_alike(finding):
            self._hands.log("finding", finding, "done already", f"{why}: nothing is asked")
        else:
            self._propose(finding, None)

    def withdrawn(self, key: str, why: str) -> None:
        """What a finding said is no longer true: its proposal goes, and the next trouble of this key may propose again."""
        self._decline({k: v for k, v in self._declined.items() if k != key})
        self.leave(lambda finding: finding.key == key, why)

    def left_behind(self, why: str) -> None:
        """The state that the guard judged is no longer the present one (a restore, another process): what it proposed for that goes, and
        so do the answers. And whoever else wanted to go back from there."""
        guards = {name for name, setting in self.settings.items() if setting.guard}
        self.leave(lambda finding: finding.rule in guards or any(isinstance(a, Rollback) for a in finding.actions), why)
        self._decline({k: v for k, v in self._declined.items() if k.partition(":")[0] not in guards})

    def _unasked(self, finding: Finding) -> None:
        if self._held_back(finding):
            return
        self._give_way(lambda other: self.arbiter.contradicts(finding, other))
        delay = self.settings[finding.rule].delay
        if delay > 0:
            self._propose(finding, self._clock.wall() + delay)
            return
        self._do(finding, f"rule:{finding.rule}")

    def _held_back(self, finding: Finding) -> bool:
        """Whether it may not be done now, unasked: done already, outdone, its budget, its cool-down. Said where that is so."""
        setting = self.settings[finding.rule]
        if self.arbiter.acted_on(finding):
            self._hands.log("finding", finding, "done already", "this very finding was acted on before: nothing done")
            return True
        if why := self.arbiter.outdone(finding, self.proposals.values()):
            self._hands.log("finding", finding, "outdone", why)
            self._hands.refused(finding.rule)
            return True
        if why := self.arbiter.done_alike(finding):
            self._hands.log("finding", finding, "done already", f"{why}: nothing done")
            return True
        if self.left(finding.rule) == 0 and self._hands.spends(finding):
            text = f"would act, but its budget of {setting.limit_text} is spent: it only watches until some of it is back"
            self._hands.log("finding", finding, "budget spent", text)
            self._decline({**self._declined, finding.key: "budget"})
            self._hands.budget_spent(finding)
            return True
        if setting.cools and not setting.guard and self._cooling(finding.rule):
            self._hands.log("finding", finding, "cooling down", "acted within the last minute: nothing done")
            return True
        return False

    def _give_way(self, why_of: Callable[[Finding], str]) -> None:
        """Proposals that only wait for their delay, and that something graver contradicts, go. Those that wait for an answer stay."""
        for proposal in [p for p in self.proposals.values() if p.due is not None]:
            if why := why_of(proposal.finding):
                act = [f.rule for f in everyone(proposal) if self.mode_of(f.rule) == "act"] or [proposal.finding.rule]
                self._part(proposal, lambda finding, act=act: finding.rule in act, f"outdone: {why}")  # type: ignore[misc]
                for rule in act:
                    self._hands.refused(rule)

    def _propose(self, finding: Finding, due: float | None) -> None:
        if any(f.key == finding.key and finding.key for p in self.proposals.values() for f in everyone(p)):
            return
        for proposal in self._alike(finding):
            if finding.rule not in [f.rule for f in everyone(proposal)]:
                self._join(proposal, finding, due)
                return
        self._proposed += 1
        self._hands.keep("proposed", self._proposed)
        proposal = Proposal(id=f"p{self._proposed}", finding=finding, made=self._clock.wall(), due=due)
        self._add(proposal)
        wait = "waits for an answer" if due is None else f"in {human(due - self._clock.wall())} unless vetoed"
        self._hands.log("proposal", finding, "open", f"{proposal.id}: {finding.text}; {wait}")
        self._save()

    def _join(self, proposal: Proposal, finding: Finding, due: float | None) -> None:
        """The same is proposed already."""
        self._add(joined(proposal, finding, due))
        others = ", ".join(f.rule for f in everyone(proposal))
        self._hands.log("proposal", finding, "joined", f"{proposal.id}: {finding.text}; {others} proposed the same, so it is one proposal")
        self._save()

    def _alike(self, finding: Finding) -> list[Proposal]:
        """Those that propose the same, at the same step where it is for one."""
        return [p for p in self.proposals.values() if p.finding.at == finding.at and alike(p.finding.actions, finding.actions)]

    def leave(self, gone: Callable[[Finding], bool], why: str) -> None:
        """These findings propose nothing any more. A proposal that others make as well stays theirs."""
        for proposal in [p for p in self.proposals.values() if any(gone(f) for f in everyone(p))]:
            self._part(proposal, gone, why)

    def _part(self, proposal: Proposal, gone: Callable[[Finding], bool], why: str) -> None:
        rest = without(proposal, gone, lambda rule: self.mode_of(rule) == "act")
        if rest is None:
            self._drop(proposal, "withdrawn", why)
            return
        for finding in [f for f in everyone(proposal) if gone(f)]:
            self._hands.log("proposal", finding, "left", f"{proposal.id}: {why}; rule {rest.finding.rule} proposes it still")
        self._add(rest)
        self._save()

    # -- from time and the operator --------------------------------------------------------------------------------------

    def tick(self, *, present: bool = True) -> None:
        """Do what was due and not vetoed. Not ``present``: records are missing that may say that it is no longer true; it waits."""
        self._date_anew()
        due = [id_ for id_, at in self._due.items() if at <= self._clock.monotonic()] if present else []
        for id_ in due:
            if id_ in self.proposals:  # else one that was due before it has done the same
                self._come_due(self.proposals[id_])
        for rule in [rule for rule in self.snoozed if not self._is_snoozed(rule)]:
            del self.snoozed[rule], self._wakes[rule]
            self._hands.keep("snoozed", self.snoozed)

    def _date_anew(self) -> None:
        """The wall clock was set, or the host slept: when a delay or a snooze is over is said, and kept, as it will really be."""
        apart = self._clock.wall() - self._clock.monotonic()
        if abs(apart - self._apart) < SET_S:
            return
        self._apart = apart
        if self._due:
            self.proposals.update({i: msgspec.structs.replace(self.proposals[i], due=at + apart) for i, at in self._due.items()})
            self._save()
        if self._wakes:
            self.snoozed.update({rule: at + apart for rule, at in self._wakes.items()})
            self._hands.keep("snoozed", self.snoozed)

    def _come_due(self, proposal: Proposal) -> None:
        """Nobody has vetoed it. Where its rule may not act now, what the others propose stays."""
        finding = proposal.finding
        if not self._held_back(finding):
            self._drop(proposal, "due", "its delay has passed without a veto")
            self._do(finding, f"rule:{finding.rule}", proposal.also)
        else:
            self._part(proposal, lambda f: f.rule == finding.rule, "its delay has passed, and it may not act now")

    def by_hand(self, action: Proposable) -> None:
        """The operator asked for it: that is never outdone, and outdoes what rules want against it."""
        self.arbiter.by_hand(action)
        self._give_way(self.arbiter.outdone)

    def approve(self, name: str) -> Finding | None:
        """Do it now; None where there is no such proposal."""
        proposal = self.proposals.get(name)
        if proposal is None:
            return None
        self._drop(proposal, "approved", "by the operator")
        self._do(proposal.finding, "operator", proposal.also)
        return proposal.finding

    def veto(self, name: str) -> Finding | None:
        """Drop it; the same finding does not propose again. None where there is no such proposal."""
        proposal = self.proposals.get(name)
        if proposal is None:
            return None
        self._drop(proposal, "vetoed", "by the operator")
        self._decline({**self._declined, **dict.fromkeys([f.key for f in everyone(proposal)], "veto")})
        for rule in dict.fromkeys(f.rule for f in everyone(proposal)):
            self._hands.refused(rule)
        return proposal.finding

    def became(self, name: str) -> str:
        """What became of a proposal that is not open: ``p2 was vetoed: by the operator``."""
        return self._ended.get(name) or f"there is no proposal {name!r}"

    def snooze(self, rule: str, seconds: float) -> None:
        """No proposals of this rule for so long; those that are open go."""
        self.snoozed[rule] = self._clock.wall() + seconds
        self._wakes[rule] = self._clock.monotonic() + seconds
        self._hands.keep("snoozed", self.snoozed)
        self.leave(lambda finding: finding.rule == rule, "the rule is snoozed")

    def set_preset(self, preset: Preset) -> None:
        """Change the run's mode. Proposals that may no longer be made are dropped."""
        self.preset = preset
        self._hands.keep("preset", preset)
        self.leave(lambda finding: self.mode_of(finding.rule) in ("off", "watch"), f"the run is in mode {preset}")

    def use(self, settings: dict[str, RuleSetting]) -> None:
        """Other settings from now on. What was proposed under rules that are gone, or may propose no more, is dropped; budgets that
        were spent stay spent."""
        self.settings = settings
        for name in settings:
            self._acted.setdefault(name, deque())
        for rule in [rule for rule in self.snoozed if rule not in settings]:
            del self.snoozed[rule], self._wakes[rule]
        self.leave(lambda f: f.rule not in settings or self.mode_of(f.rule) in ("off", "watch"), "the rules were changed")

    # -- what it knows ---------------------------------------------------------------------------------------------------

    def mode_of(self, rule: str) -> Mode:
        """What this rule may lead to now. A rule that is not known may only be seen."""
        setting = self.settings.get(rule)
        return effective(setting, self.preset) if setting else "watch"

    def at_work(self, incident: Incident) -> bool:
        """Whether something is done about it: begun, or to be done unasked; not only watched, snoozed, vetoed, or without budget."""
        rule = incident.rule
        if any(key.startswith(f"{rule}:") for key in self._declined):
            return False
        return incident.steps_lost is not None or (self.mode_of(rule) == "act" and not self._is_snoozed(rule))

    def left(self, rule: str) -> int | None:
        """Unasked actions left in the rolling window; None where there is no limit."""
        setting = self.settings[rule]
        if setting.limit is None:
            return None
        count, span = setting.limit
        acted = self._past_acts(rule)
        while acted and acted[0] <= self._clock.wall() - span:
            acted.popleft()
        return max(0, count - len(acted))

    def restore(self, kept: dict[str, object]) -> None:
        """What an earlier daemon kept. A delay that ran out while none lived is not made up for: it is ``skipped``."""
        self.arbiter.restore(kept.get(DEEDS))  # type: ignore[arg-type]
        now = self._clock.wall()
        for raw in kept.get("proposals") or []:  # type: ignore[attr-defined]
            try:
                proposal = msgspec.convert(raw, Proposal)
            except msgspec.ValidationError as e:  # of another version
                log.warning("a proposal that an earlier daemon made is not understood: %s", e)
                continue
            kept_rules = without(proposal, lambda f: f.rule not in self.settings, lambda rule: self.mode_of(rule) == "act")
            if kept_rules is None:
                continue
            proposal = kept_rules
            if proposal.due is not None and proposal.due <= now:
                self._hands.log("proposal", proposal.finding, "skipped", f"{proposal.id}: its delay ran out while no daemon lived")
                continue
            self._add(proposal)
        numbers = [int(id_[1:]) for id_ in self.proposals if id_[1:].isdigit()]
        self._proposed = max([int(kept.get("proposed") or 0), *numbers])  # type: ignore[call-overload]
        self._declined = {str(k): str(v) for k, v in (kept.get("declined") or {}).items()}  # type: ignore[attr-defined]
        if kept.get("proposals"):
            self._save()  # without those that were skipped: the next daemon need not say so again
        for rule, times in (kept.get("acted") or {}).items():  # type: ignore[attr-defined]
            if rule in self._acted:
                self._acted[rule].extend(float(t) for t in times)
        self.snoozed.update({r: float(t) for r, t in (kept.get("snoozed") or {}).items() if r in self.settings})  # type: ignore[attr-defined]
        self._wakes = {rule: self._clock.monotonic() + min(until - now, LONGEST_SNOOZE_S) for rule, until in self.snoozed.items()}

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _do(self, finding: Finding, by: str, also: Sequence[Finding] = ()) -> None:
        """``also``: what others have found and would have done the same for; that is dealt with, too."""
        if by != "operator" and self._hands.spends(finding):
            self._acted[finding.rule].append(self._clock.wall())
            self._hands.keep("acted", {rule: list(times) for rule, times in self._acted.items() if times})
        for proposal in self._alike(finding):
            if finding.rule not in [f.rule for f in everyone(proposal)]:
                also = [*also, *everyone(proposal)]
                self._drop(proposal, "done", f"rule {finding.rule} does the same")
        self.arbiter.done(finding, by, also)
        if by == "operator":
            self._give_way(self.arbiter.outdone)
        self._hands.act(finding, by)

    def _add(self, proposal: Proposal) -> None:
        """Its delay runs by the monotonic clock: a wall clock that is set, or a host that slept, takes nobody the time to veto."""
        self.proposals[proposal.id] = proposal
        self._due.pop(proposal.id, None)
        if proposal.due is not None:
            wait = min(proposal.due - self._clock.wall(), max(self.settings[f.rule].delay for f in everyone(proposal)))
            self._due[proposal.id] = self._clock.monotonic() + wait

    def _drop(self, proposal: Proposal, status: str, detail: str) -> None:
        del self.proposals[proposal.id]
        self._due.pop(proposal.id, None)
        self._ended[proposal.id] = f"{proposal.id} was {status}: {detail}"
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self._hands.log("proposal", proposal.finding, status, f"{proposal.id}: {detail}")
        self._save()

    def _save(self) -> None:
        self._hands.keep("proposals", list(self.proposals.values()))

    def _decline(self, declined: dict[str, str]) -> None:
        if declined != self._declined:
            self._declined = declined
            self._hands.keep("declined", declined)

    def _past_acts(self, rule: str) -> deque[float]:
        """When it acted; none of it lies in the future, also where the wall clock was set back."""
        acted, now = self._acted[rule], self._clock.wall()
        if acted and acted[-1] > now:
            acted = self._acted[rule] = deque(min(at, now) for at in acted)
        return acted

    def _is_declined(self, finding: Finding) -> bool:
        why = self._declined.get(finding.key)
        return why == "veto" or (why == "budget" and self.left(finding.rule) == 0 and self._hands.spends(finding))

    def _is_snoozed(self, rule: str) -> bool:
        return self._wakes.get(rule, -math.inf) > self._clock.monotonic()

    def _cooling(self, rule: str) -> bool:
        acted = self._past_acts(rule)
        return bool(acted) and self._clock.wall() - acted[-1] < COOL_DOWN_S
