"""Who has their way where two want opposite things: the operator, then the graver rule, then the earlier one. And nothing is done twice."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from sitter.clock import Clock, human
from sitter.control.joint import alike
from sitter.grammar import spelled
from sitter.model import EndAndRestart, Finding, Notification, Proposable, Proposal
from sitter_wire.commands import Pause, Rollback, SetKnob, Stop, Unpause

log = logging.getLogger(__name__)

DEEDS = "deeds"
"""What ``Arbiter`` keeps for the next daemon."""
WINDOW_S = 60.0
"""So long what was done stands against its opposite."""
REMEMBERED = 256
"""Findings that were acted on, and are not again."""

_SEVERITIES = ("info", "warning", "critical")
_EXCLUDE: tuple[frozenset[type[object]], ...] = (
    frozenset({Pause, Unpause}),
    frozenset({Pause, Stop}),
    frozenset({Pause, EndAndRestart}),
    frozenset({Stop, EndAndRestart}),
)
"""Kinds of actions of which one undoes, or makes pointless, what the other wants."""


def opposite(one: Proposable, other: Proposable) -> bool:
    """Whether both cannot be had. A knob that is scaled up and down, or set to different values (scaling what was just set makes it
    another value); and what stands in ``_EXCLUDE``. What a rollback also scales counts."""
    if frozenset({type(one), type(other)}) in _EXCLUDE:
        return True
    return any(_contrary(a, b) for a in _changes(one) for b in _changes(other))


def _changes(action: Proposable) -> list[SetKnob]:
    """What it does to knobs."""
    if isinstance(action, Rollback):
        return [SetKnob(knob=name, op="scale", amount=factor) for name, factor in action.also_scale.items()]
    return [action] if isinstance(action, SetKnob) else []


def _contrary(one: SetKnob, other: SetKnob) -> bool:
    if one.knob != other.knob or (one.group != other.group and one.group is not None and other.group is not None):
        return False
    if one.op == other.op == "scale":
        return (one.amount - 1.0) * (other.amount - 1.0) < 0.0
    if one.op == other.op:
        return one.amount != other.amount
    return (one if one.op == "scale" else other).amount != 1.0


def _together(action: Proposable, done: Proposable) -> Proposable:
    """What ``action`` comes to where ``done`` was the rule's own: a knob halved and then doubled stands where it stood. Taking back
    never comes to more than nothing: after a restore what was done before it is counted twice."""
    if not isinstance(action, SetKnob) or action.op != "scale":
        return action
    own = math.prod(c.amount for c in _changes(done) if c.op == "scale" and (c.knob, c.group) == (action.knob, action.group))
    amount = action.amount * own
    taken_back = math.isclose(amount, 1.0, rel_tol=1e-6) or (amount - 1.0) * (action.amount - 1.0) <= 0.0
    return msgspec.structs.replace(action, amount=1.0 if taken_back else amount)


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was begun. ``rule``: whose finding it was; empty: nobody's. ``by_hand``: the operator asked for it, or approved it.
    ``at``: monotonic seconds; ``for_step``: to be carried out at this one."""

    rule: str
    by_hand: bool
    rank: int
    step: int | None
    action: Proposable
    at: float
    for_step: int | None = None


class Arbiter:
    """Asked before anything is done unasked, told of everything that is done."""

    def __init__(self, clock: Clock, is_guard: Callable[[str], bool], keep: Callable[[str, object], None]) -> None:
        self._clock, self._is_guard, self._keep = clock, is_guard, keep
        self._deeds: list[Deed] = []
        self._acted_on: dict[tuple[str, str, int, int], None] = {}

    # -- asked -----------------------------------------------------------------------------------------------------------

    def acted_on(self, finding: Finding) -> bool:
        """Whether this very finding was acted on, by this daemon or one before it. The same trouble at a later step is another one; and to
        tell somebody, or to end what stands still, harms nobody twice: the daemon may have died in the middle of it."""
        twice_harms = any(not isinstance(a, Notification | EndAndRestart) for a in finding.actions)
        return twice_harms and _identity(finding) in self._acted_on

    def done_alike(self, finding: Finding) -> str:
        """Who has done within the last minute all that this finding proposes: another rule, or the operator. Empty: nobody. The guard
        answers for its own."""
        if self._is_guard(finding.rule):
            return ""
        recent: list[Deed] = []
        for deed in self._beside(finding):
            if any(opposite(deed.action, action) for action in finding.actions):
                break  # what was done before it was undone
            recent += [deed] if deed.rule != finding.rule else []
        found = next((d for d in recent if alike(finding.actions, [e.action for e in recent if (e.rule, e.at) == (d.rule, d.at)])), None)
        if found is None:
            return ""
        who = f"rule {found.rule} did" if found.rule and not found.by_hand else "the operator asked for"
        return f"{who} the same {human(self._clock.monotonic() - found.at)} ago"

    def outdone(self, finding: Finding, waiting: Iterable[Proposal] = ()) -> str:
        """Why it may not be done now: what the operator or a rule that is no less grave did within the last minute, or what such a rule is
        about to do (``waiting``); or what a graver one has asked for within that minute. Empty: nothing is against it. Going back to a
        healthy state, by the guard, is never outdone; nor is taking back what the rule itself has done since, which leaves what stood
        before as it was."""
        if self._is_guard(finding.rule) and any(isinstance(a, Rollback) for a in finding.actions):
            return ""
        rank, wanted = self._rank(finding), list(finding.actions)
        for deed in self._beside(finding):
            if deed.rule == finding.rule:
                wanted = [_together(a, deed.action) for a in wanted]
                continue
            if not any(opposite(a, deed.action) for a in wanted):
                continue
            if deed.by_hand:
                ago = human(self._clock.monotonic() - deed.at)
                return f"the operator asked for {spelled(deed.action)} {ago} ago, which is the opposite"
            if deed.rank >= rank:
                return _than(deed.rule, deed.action, deed.step, deed.rank > rank)
        for one in waiting:
            other = one.finding
            graver = self._rank(other) > rank
            stands = 0.0 <= self._clock.wall() - one.made < WINDOW_S and graver if one.due is None else self._rank(other) >= rank
            if stands and (clash := self._clash(finding, other)) is not None:
                return _than(other.rule, clash, other.step, graver)
        return ""

    def contradicts(self, finding: Finding, other: Finding) -> str:
        """Why ``other``, which waits, gives way to ``finding``; empty: it does not. To be asked where ``finding`` itself is not outdone."""
        return "" if (clash := self._clash(other, finding)) is None else _than(finding.rule, clash, finding.step, graver=True)

    # -- told ------------------------------------------------------------------------------------------------------------

    def done(self, finding: Finding, by: str, also: Iterable[Finding] = ()) -> None:
        """Its actions are on their way; ``also``: and with them what others have found that proposed the same."""
        by_hand, rank, now = by == "operator", self._rank(finding), self._clock.monotonic()
        for one in (finding, *also):
            self._acted_on[_identity(one)] = None
        while len(self._acted_on) > REMEMBERED:
            del self._acted_on[next(iter(self._acted_on))]
        self._add([
            Deed(rule=finding.rule, by_hand=by_hand, rank=rank, step=finding.step, action=a, at=now, for_step=finding.at)
            for a in finding.actions
        ])  # fmt: skip

    def by_hand(self, action: Proposable) -> None:
        """The operator asked for it."""
        self._add([Deed(rule="", by_hand=True, rank=0, step=None, action=action, at=self._clock.monotonic())])

    def came_to_nothing(self, action: Proposable) -> None:
        """It was rejected, or has expired: it stands against nothing."""
        for deed in [d for d in reversed(self._deeds) if d.action == action][:1]:
            self._deeds.remove(deed)
            self._save()

    def restore(self, kept: dict[str, Any] | None) -> None:
        """What an earlier daemon kept."""
        try:
            self._deeds = msgspec.convert((kept or {}).get("recent", []), list[Deed])
            self._acted_on = dict.fromkeys(msgspec.convert((kept or {}).get("acted_on", []), list[tuple[str, str, int, int]]))
        except msgspec.ValidationError as e:  # of another version
            log.warning("what an earlier daemon has done is not understood: %s", e)

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _rank(self, finding: Finding) -> int:
        """The guard before others, then by severity."""
        return _SEVERITIES.index(finding.severity) + (len(_SEVERITIES) if self._is_guard(finding.rule) else 0)

    def _clash(self, finding: Finding, other: Finding) -> Proposable | None:
        """The action of ``other`` that is the opposite of one of ``finding``'s; what a rule wants of itself never is."""
        if finding.rule == other.rule or (finding.at is not None and other.at is not None):
            return None
        return next((b for b in other.actions if any(opposite(a, b) for a in finding.actions)), None)

    def _recent(self) -> list[Deed]:
        """Also of an earlier daemon; never of another boot, when the clock stood higher."""
        now = self._clock.monotonic()
        self._deeds = [d for d in self._deeds if 0.0 <= now - d.at < WINDOW_S]
        return self._deeds

    def _beside(self, finding: Finding) -> Iterator[Deed]:
        """The newest first. Actions for steps that somebody has named are each meant as they stand: sent within a minute they are not done
        within one, and whoever writes two of them wants both."""
        return (d for d in reversed(self._recent()) if finding.at is None or d.for_step is None)

    def _add(self, deeds: list[Deed]) -> None:
        self._recent().extend(deeds)
        self._save()

    def _save(self) -> None:
        self._keep(DEEDS, {"recent": self._deeds, "acted_on": list(self._acted_on)})


def _identity(finding: Finding) -> tuple[str, str, int, int]:
    return finding.rule, finding.key, finding.branch, finding.step


def _than(rule: str, action: Proposable, step: int | None, graver: bool) -> str:
    at = "" if step is None else f" at step {step:,}"
    return f"rule {rule} wanted {spelled(action)}{at}, which is the opposite, and {'is graver' if graver else 'was earlier'}"
