"""What the rules share that tell of a trouble: it is said when it has begun, and once more when it is over."""

from sitter.model import Finding, Proposable, Severity
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.view import RunView, Sample
from sitter_wire.events import KnobChanged, Restored, SessionStart
from sitter_wire.records import Happening

At = Sample | Restored | RunView
"""What says where the training stands."""


class TroubleRule(Rule):
    """One trouble of the training at a time. ``says`` tells of it under a key of its own, ``ends`` that it is over, under the same key;
    while ``self.trouble`` is not empty it has been said and is not over.

    The key is made of the rule, the branch and the onset, so that the same trouble, found again by the next daemon from the same points,
    is the same one: who has vetoed it is not asked again. A restore leaves the trouble behind, and so does another process, whatever the
    rule does there.
    """

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self.trouble = ""
        """Key of what was said and is not over; empty: nothing."""

    def says(
        self,
        severity: Severity,
        text: str,
        at: At,
        *,
        onset: int | None = None,
        evidence: dict[str, float | int | str | None],
        actions: list[Proposable] | None = None,
    ) -> Finding:
        """The trouble that began at step ``onset``, None: here; where one is open, more of the same."""
        step = at.step or 0
        self.trouble = self.trouble or self.new_key(at.branch, step if onset is None else onset)
        return self.found(
            severity, text, step=step, branch=at.branch, onset=onset, evidence=evidence, actions=actions, key=self.trouble,
        )  # fmt: skip

    def new_key(self, branch: int, onset: int) -> str:
        """Of a trouble that begins."""
        return f"{self.name}:{branch}:{onset}"

    def ends(
        self,
        text: str,
        at: At,
        *,
        recovered: bool = True,
        onset: int | None = None,
        evidence: dict[str, float | int | str | None] | None = None,
    ) -> Finding | None:
        """It is over; None where nothing was said that could be. Not ``recovered``: it stayed, or can no longer be judged."""
        key, self.trouble = self.trouble, ""
        if not key:
            return None
        evidence = {RECOVERED: int(recovered), **(evidence or {})}
        return self.found("info", text, step=at.step or 0, branch=at.branch, onset=onset, evidence=evidence, key=key)

    def happened(self, happening: Happening, view: RunView) -> None:
        """Calls ``restored`` and ``rate_changed``."""
        event = happening.event
        if isinstance(event, Restored):
            self.restored(event)
            self.trouble = ""
        elif isinstance(event, SessionStart):
            self.trouble = ""  # said of the process before: that this one does not have it would be no recovery
        elif isinstance(event, KnobChanged) and event.knob == "lr":
            self.rate_changed(happening.step)

    def restored(self, event: Restored) -> None:
        """The training went back, and the memory with it. Whatever this does, the trouble is forgotten after it."""

    def rate_changed(self, step: int) -> None:
        """The rate's scale is another from here on."""


class MachineRule(TroubleRule):
    """The same of the machine: going back does not end its trouble, nor does another process. It began at no step, so it has a number."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._number = 0

    def new_key(self, branch: int, onset: int) -> str:
        """The next number."""
        self._number += 1
        return f"{self.name}:{self._number}"

    happened = Rule.happened
