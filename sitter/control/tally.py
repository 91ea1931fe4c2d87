"""What each rule has found so far, and what may come of it."""

import msgspec

from sitter.control.dispatcher import Dispatcher
from sitter.control.ruleset.build import parameters
from sitter.control.ruleset.settings import RuleSetting
from sitter.model import Finding, Mode, RuleState
from sitter.rules.base import Rule
from sitter.rules.engine import is_switched_off


class Tally:
    """Counts findings since the daemon began."""

    def __init__(self, rules: dict[str, Rule], dispatcher: Dispatcher) -> None:
        self._rules, self._dispatcher = rules, dispatcher
        self._found: dict[str, tuple[int, Finding]] = {}
        self._broken: dict[str, tuple[Rule, str]] = {}
        """Those that were switched off, and why; one that was read anew is another rule."""

    def found(self, finding: Finding) -> None:
        """One more."""
        count, _ = self._found.get(finding.rule, (0, finding))
        self._found[finding.rule] = (count + 1, finding)
        if is_switched_off(finding) and finding.rule in self._rules:
            self._broken[finding.rule] = self._rules[finding.rule], finding.text

    def states(self) -> list[RuleState]:
        """Every rule, in the order of the catalogue."""
        return [self._state(name, rule) for name, rule in self._rules.items()]

    def _state(self, name: str, rule: Rule) -> RuleState:
        count, last = self._found.get(name, (0, None))
        was, why = self._broken.get(name, (None, ""))
        return msgspec.structs.replace(
            unused(rule, self._dispatcher.settings[name], self._dispatcher.mode_of(name)), findings=count,
            last_step=last.step if last else None, last_text=last.text if last else "", snoozed_until=self._dispatcher.snoozed.get(name),
            left=self._dispatcher.left(name), broken=why if was is rule else "",
        )  # fmt: skip


def unused(rule: Rule, setting: RuleSetting, effective: Mode) -> RuleState:
    """Of a rule that has found nothing yet."""
    return RuleState(
        name=rule.name, title=rule.title, guard=rule.guard, mode=setting.mode, effective=effective, params=parameters(rule),
        limit=setting.limit_text, left=setting.limit[0] if setting.limit else None, delay=setting.delay, doc=type(rule).__doc__ or "",
    )  # fmt: skip
