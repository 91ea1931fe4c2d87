"""What each rule has found so far, and what may come of it."""

from sitter.control.dispatcher import Dispatcher
from sitter.control.ruleset import parameters
from sitter.model import Finding, RuleState
from sitter.rules.base import Rule


class Tally:
    """Counts findings since the daemon began."""

    def __init__(self, rules: dict[str, Rule], dispatcher: Dispatcher) -> None:
        self._rules, self._dispatcher = rules, dispatcher
        self._found: dict[str, tuple[int, Finding]] = {}

    def found(self, finding: Finding) -> None:
        """One more."""
        count, _ = self._found.get(finding.rule, (0, finding))
        self._found[finding.rule] = (count + 1, finding)

    def states(self) -> list[RuleState]:
        """Every rule, in the order of the catalogue."""
        return [self._state(name, rule) for name, rule in self._rules.items()]

    def _state(self, name: str, rule: Rule) -> RuleState:
        setting = self._dispatcher.settings[name]
        count, last = self._found.get(name, (0, None))
        return RuleState(
            name=name,
            title=rule.title,
            guard=rule.guard,
            mode=setting.mode,
            effective=self._dispatcher.mode_of(name),
            params=parameters(rule),
            findings=count,
            last_step=last.step if last else None,
            last_text=last.text if last else "",
            snoozed_until=self._dispatcher.snoozed.get(name),
            limit=setting.limit_text,
            left=self._dispatcher.left(name),
            delay=setting.delay,
            doc=type(rule).__doc__ or "",
        )
