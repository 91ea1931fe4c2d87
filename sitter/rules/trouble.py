"""What the rules about the course of training share: a trouble is said when it has begun, and once more when it is over."""

from sitter.model import Finding, Proposable, Severity
from sitter.rules.base import RECOVERED, Rule, RuleParams
from sitter.rules.view import RunView, Sample
from sitter_wire.events import KnobChanged, Restored, SessionStart
from sitter_wire.records import Happening


class TroubleRule(Rule):
    """One trouble at a time. ``says`` tells of it under a key of its own, ``ends`` that it is over, under the same key; while
    ``self.trouble`` is not empty it has been said and is not over.

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
        sample: Sample,
        *,
        onset: int,
        evidence: dict[str, float | int | str | None],
        actions: list[Proposable] | None = None,
    ) -> Finding:
        """The trouble that began at step ``onset``; where one is open, more of the same."""
        self.trouble = self.trouble or f"{self.name}:{sample.branch}:{onset}"
        return self.found(
            severity, text, step=sample.step, branch=sample.branch, onset=onset, evidence=evidence, actions=actions, key=self.trouble,
        )  # fmt: skip

    def ends(
        self,
        text: str,
        at: Sample | Restored,
        *,
        recovered: bool = True,
        onset: int | None = None,
        evidence: dict[str, float | int | str | None] | None = None,
    ) -> Finding | None:
        """It is over; None where nothing was said that could be. Not ``recovered``: it stayed, or can no longer be judged."""
        key, self.trouble = self.trouble, ""
        if not key:
            return None
        return self.found(
            "info", text, step=at.step, branch=at.branch, onset=onset, evidence={RECOVERED: int(recovered), **(evidence or {})}, key=key,
        )  # fmt: skip

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
