"""From finding to action: mode, snooze, budget, cool-down, delay, answer. A rule never acts; this decides, and says so."""

import itertools
from collections import deque
from typing import Protocol

import msgspec

from sitter.clock import Clock, human
from sitter.control.settings import RuleSetting, effective
from sitter.model import EntryKind, Finding, Incident, Mode, Preset, Proposal

COOL_DOWN_S = 60.0
"""Between two unasked actions of one rule that is not part of the guard, whose own response paces it."""


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
        """What this rule proposed was vetoed: it need not wait for an outcome."""
        ...

    def keep(self, key: str, value: object) -> None:
        """Remember beyond this process."""
        ...


class Dispatcher:
    """Proposals, and who may act how often. All on the loop's thread."""

    def __init__(self, settings: dict[str, RuleSetting], preset: Preset, clock: Clock, hands: Hands) -> None:
        self.settings, self.preset = settings, preset
        self._clock, self._hands = clock, hands
        self.proposals: dict[str, Proposal] = {}
        self.snoozed: dict[str, float] = {}
        self._acted: dict[str, deque[float]] = {name: deque() for name in settings}
        self._declined: dict[str, str] = {}
        self._ids = itertools.count(1)

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
        else:
            self._propose(finding, None)

    def withdrawn(self, key: str, why: str) -> None:
        """What a finding said is no longer true: its proposal goes, and the next trouble of this key may propose again."""
        self._declined.pop(key, None)
        for proposal in [p for p in self.proposals.values() if p.finding.key == key]:
            self._drop(proposal, "withdrawn", why)

    def _unasked(self, finding: Finding) -> None:
        setting = self.settings[finding.rule]
        if self.left(finding.rule) == 0 and self._hands.spends(finding):
            self._hands.log(
                "finding",
                finding,
                "budget spent",
                f"would act, but its budget of {setting.limit_text} is spent: it only watches until some of it is back",
            )
            self._declined[finding.key] = "budget"
            self._hands.budget_spent(finding)
            return
        if not setting.guard and self._cooling(finding.rule):
            self._hands.log("finding", finding, "cooling down", "acted within the last minute: nothing done")
            return
        if setting.delay > 0:
            self._propose(finding, self._clock.wall() + setting.delay)
            return
        self._do(finding, f"rule:{finding.rule}")

    def _propose(self, finding: Finding, due: float | None) -> None:
        if any(p.finding.key == finding.key and finding.key for p in self.proposals.values()):
            return
        proposal = Proposal(id=f"p{next(self._ids)}", finding=finding, made=self._clock.wall(), due=due)
        self.proposals[proposal.id] = proposal
        wait = "waits for an answer" if due is None else f"in {human(due - self._clock.wall())} unless vetoed"
        self._hands.log("proposal", finding, "open", f"{proposal.id}: {finding.text}; {wait}")
        self._save()

    # -- from time and the operator --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what was due and not vetoed."""
        now = self._clock.wall()
        for proposal in list(self.proposals.values()):
            if proposal.due is not None and proposal.due <= now:
                self._drop(proposal, "due", "its delay has passed without a veto")
                self._do(proposal.finding, f"rule:{proposal.finding.rule}")
        for rule, until in list(self.snoozed.items()):
            if until <= now:
                del self.snoozed[rule]

    def approve(self, name: str) -> Finding | None:
        """Do it now; None where there is no such proposal."""
        proposal = self.proposals.get(name)
        if proposal is None:
            return None
        self._drop(proposal, "approved", "by the operator")
        self._do(proposal.finding, "operator")
        return proposal.finding

    def veto(self, name: str) -> Finding | None:
        """Drop it; the same finding does not propose again. None where there is no such proposal."""
        proposal = self.proposals.get(name)
        if proposal is None:
            return None
        self._drop(proposal, "vetoed", "by the operator")
        self._declined[proposal.finding.key] = "veto"
        self._hands.refused(proposal.finding.rule)
        return proposal.finding

    def snooze(self, rule: str, seconds: float) -> None:
        """No proposals of this rule for so long."""
        self.snoozed[rule] = self._clock.wall() + seconds
        self._hands.keep("snoozed", self.snoozed)

    def set_preset(self, preset: Preset) -> None:
        """Change the run's mode. Proposals that may no longer be made are dropped."""
        self.preset = preset
        self._hands.keep("preset", preset)
        for proposal in list(self.proposals.values()):
            if self.mode_of(proposal.finding.rule) in ("off", "watch"):
                self._drop(proposal, "withdrawn", f"the run is in mode {preset}")

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
        acted = self._acted[rule]
        while acted and acted[0] <= self._clock.wall() - span:
            acted.popleft()
        return max(0, count - len(acted))

    def restore(self, kept: dict[str, object]) -> None:
        """What an earlier daemon kept. A delay that ran out while none lived is not made up for: it is ``skipped``."""
        now = self._clock.wall()
        for raw in kept.get("proposals") or []:  # type: ignore[attr-defined]
            proposal = msgspec.convert(raw, Proposal)
            if proposal.finding.rule not in self.settings:
                continue
            if proposal.due is not None and proposal.due <= now:
                self._hands.log(
                    "proposal", proposal.finding, "skipped", f"{proposal.id}: its delay ran out while no daemon lived"
                )
                continue
            self.proposals[proposal.id] = proposal
        numbers = [int(id_[1:]) for id_ in self.proposals if id_[1:].isdigit()]
        self._ids = itertools.count(max([*numbers, *[0]]) + 1)
        for rule, times in (kept.get("acted") or {}).items():  # type: ignore[attr-defined]
            if rule in self._acted:
                self._acted[rule].extend(float(t) for t in times)
        self.snoozed.update({r: float(t) for r, t in (kept.get("snoozed") or {}).items() if r in self.settings})  # type: ignore[attr-defined]

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _do(self, finding: Finding, by: str) -> None:
        if self._hands.spends(finding):
            self._acted[finding.rule].append(self._clock.wall())
            self._hands.keep("acted", {rule: list(times) for rule, times in self._acted.items() if times})
        self._hands.act(finding, by)

    def _drop(self, proposal: Proposal, status: str, detail: str) -> None:
        del self.proposals[proposal.id]
        self._hands.log("proposal", proposal.finding, status, f"{proposal.id}: {detail}")
        self._save()

    def _save(self) -> None:
        self._hands.keep("proposals", list(self.proposals.values()))

    def _is_declined(self, finding: Finding) -> bool:
        why = self._declined.get(finding.key)
        return why == "veto" or (why == "budget" and self.left(finding.rule) == 0 and self._hands.spends(finding))

    def _is_snoozed(self, rule: str) -> bool:
        return self.snoozed.get(rule, 0.0) > self._clock.wall()

    def _cooling(self, rule: str) -> bool:
        acted = self._acted[rule]
        return bool(acted) and self._clock.wall() - acted[-1] < COOL_DOWN_S
