"""A rule whose budget is spent only watches until some of it is back, and says so (DESIGN §7): to the logbook each time, by the dispatcher,
and to people here."""

from collections.abc import Callable

from sitter.control.dispatcher import Dispatcher
from sitter.control.life import Life
from sitter.control.orders import Orders
from sitter.control.present import Present
from sitter.model import Finding, Notification
from sitter.rules.base import Rule
from sitter_wire.commands import TakeCheckpoint


class SpentBudgets:
    """Whoever hears of what a rule does hears once that it does no more; of a critical trouble that it would have told of, each time. The
    guard gives up: what is there is saved first."""

    def __init__(
        self, run: str, rules: dict[str, Rule], dispatcher: Dispatcher, present: Present, life: Life, orders: Orders,
        notify: Callable[[str, str, str], None],
    ) -> None:  # fmt: skip
        self._run, self._rules, self._dispatcher, self._present, self._life = run, rules, dispatcher, present, life
        self._orders, self._notify = orders, notify
        self._told: set[str] = set()

    def spent(self, finding: Finding) -> None:
        """A rule wanted to act, and may not any more."""
        limit = self._dispatcher.settings[finding.rule].limit_text
        if self._rules[finding.rule].guard:
            text = f"{self._run}: {finding.text}; the budget of {limit} is spent, so nothing more is done unasked"
            self._notify("gave_up", text, f"{finding.key} gave up")
            self._save(finding.rule)
            return
        events = [action.event for action in finding.actions if isinstance(action, Notification)]
        if finding.rule in self._told and not (events and finding.severity == "critical"):
            return
        self._told.add(finding.rule)
        spent = f"the budget of the rule {finding.rule}, {limit}, is spent: until some of it is back it only watches"
        text = f"{self._run}: {finding.text}; {spent}"
        for event in events or ["acted"]:
            self._notify(event, text, f"{finding.key} budget spent")

    def acts(self, rule: str) -> None:
        """Some of its budget was back."""
        self._told.discard(rule)

    def _save(self, rule: str) -> None:
        session = self._present.session
        if self._life.alive and session is not None:
            saved = TakeCheckpoint(why="the guard's budget is spent", cleared=True, pinned=True)
            self._orders.give(saved, session=session.id, by=f"rule:{rule}")
