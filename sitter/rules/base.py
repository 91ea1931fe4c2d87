"""What a rule is. One rule, one file; its class docstring is the page a user reads, its cases are its test."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from sitter.model import Afterwards, Finding, Mode, Proposable, Severity
from sitter.rules.view import RunView, Sample
from sitter_wire.records import Happening


class RuleParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule's parameters, which ``sitter.toml`` can override. Every field has its docstring under it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """In a case: a second passed. ``facts`` are first written into the view."""

    now: float
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One story a rule is told. ``play`` yields samples, ticks and happenings in order; ``says`` must stand in a finding's text
    (cases that fire); ``acts`` says whether any finding proposes an action (None: either)."""

    title: str
    play: Callable[[], Iterable["Sample | Tick | Happening"]]
    says: str = ""
    acts: bool | None = None
    view: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    """Other than the defaults: for a rule that is off until it is told something."""


class Rule:
    """Base of all rules. ``observe`` runs on every logged point that holds one of ``signals`` and must be O(1); ``tick`` once a second.
    What a rule leaves as it is here costs nothing.

    What a rule remembers of the signals lies in ``self.memory`` and is copied at every snapshot and gone back to on a restore. What it
    remembers of itself (what it has said, what was tried) lies elsewhere in ``self`` and is not rewound.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    guard: ClassVar[bool] = False
    """One of the rules that save a run from ruin."""

    default_mode: ClassVar[Mode] = "ask"
    """Under the preset ``guard``."""

    default_delay: ClassVar[float] = 0.0
    """Seconds in which an action can be vetoed, in mode ``act``."""

    default_limit: ClassVar[str] = ""
    """Budget, such as ``3 per hour``; empty: none."""

    cools: ClassVar[bool] = True
    """Between two unasked actions of it a minute passes at least. Not of what was asked for at its very times."""

    signals: tuple[str, ...] | None = None
    """``observe`` wants the points that hold one of these, and is not called for others; None: it wants every point. One that ends in
    ``.*`` stands for all that begin so: ``grad_norm.*`` for the gradient norm of every layer."""

    remembers: ClassVar[type | None] = None
    """Class of ``self.memory``, made without anything; None: it remembers nothing of the signals, or says itself what is ``fresh``."""

    FIRES: ClassVar[tuple[Case, ...]] = ()
    QUIET: ClassVar[tuple[Case, ...]] = ()

    class Params(RuleParams, frozen=True):
        """None."""

    def __init__(self, params: RuleParams | None = None) -> None:
        self.params: Any = params if params is not None else self.Params()
        self.memory: Any = self.fresh()

    @property
    def open_trip(self) -> bool:
        """Trouble is open: no snapshot is to be taken, nothing cleared."""
        return False

    @property
    def suspicious(self) -> bool | None:
        """Whether the newest sample looked unhealthy; None where this rule did not judge it."""
        return None

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point of the present branch."""
        return None

    def tick(self, view: RunView, now: float) -> Finding | None:
        """Once a second; ``now`` is monotonic seconds."""
        return None

    def happened(self, happening: Happening, view: RunView) -> None:
        """An event of the present session. On ``Restored`` the memory has been set back already."""

    def standing(self, view: RunView) -> Finding | None:
        """At the end of catching up: the trouble that still stands, with its actions."""
        return None

    def refused(self, view: RunView) -> None:
        """What this rule proposed was rejected, has expired or was vetoed: it may propose again."""

    @property
    def wants_stacks(self) -> bool:
        """It would first know where the training stands; the stacks of all threads are then taken, and lie in ``view.stood``."""
        return False

    def knowledge(self) -> Any:
        """What it has learned of this run that the next daemon should know (plain values); None: nothing."""
        return None

    def know(self, told: Any) -> None:
        """What an earlier daemon's ``knowledge`` was. Raises what it likes where it is not that."""

    def limits(self, view: RunView) -> str:
        """Guard rules: why it cannot guard as it should, in a few words for the header; empty where it can."""
        return ""

    def spends(self, finding: Finding) -> bool:
        """Whether doing this finding's actions counts against the budget."""
        return bool(finding.actions)

    def state(self) -> object:
        """A copy of what it remembers of the signals."""
        return copy.deepcopy(self.memory)

    def set_state(self, state: object | None) -> None:
        """Go back to such a copy; None: begin anew. The copy stays intact."""
        self.memory = self.fresh() if state is None else copy.deepcopy(state)

    def fresh(self) -> object:
        """A memory that has seen nothing; the first is made when the parameters are known, and nothing else."""
        return None if self.remembers is None else self.remembers()

    def found(
        self,
        severity: Severity,
        text: str,
        *,
        step: int,
        branch: int,
        onset: int | None = None,
        evidence: dict[str, float | int | str | None] | None = None,
        actions: list[Proposable] | None = None,
        key: str = "",
        suspicious: bool = False,
        afterwards: Afterwards | None = None,
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            rule=self.name, severity=severity, step=step, branch=branch, onset=step if onset is None else onset, text=text,
            evidence=evidence or {}, actions=actions or [], key=key or self.name, suspicious=suspicious,
            afterwards=afterwards,
        )  # fmt: skip


RECOVERED = "recovered"
"""Evidence ``recovered: 1`` says that the trouble with the finding's key is over. ``recovered: 0`` says that it stayed, and is now
taken for usual: the incident ends without a recovery."""


def wants(rule: Rule, names: tuple[str, ...]) -> bool:
    """Whether ``rule`` is to observe points that hold signals of these names."""
    return rule.signals is None or any(
        any(name.startswith(wanted[:-1]) for name in names) if wanted.endswith(".*") else wanted in names for wanted in rule.signals
    )


def changes(rule: Rule, method: str) -> bool:
    """Whether this rule has a ``method`` of its own."""
    return method in vars(rule) or getattr(type(rule), method) is not getattr(Rule, method)


def recovered(finding: Finding) -> bool:
    """Whether this finding closes the incident of its key because all is usual again."""
    return finding.evidence.get(RECOVERED) == 1


def gave_up(finding: Finding) -> bool:
    """Whether this finding closes the incident of its key although nothing became usual again."""
    return finding.evidence.get(RECOVERED) == 0


def play(rule: Rule, case: Case, view: RunView | None = None) -> list[Finding]:
    """Tell a rule a case, without an engine, and collect what it finds."""
    view = view or RunView(in_session=True, state="running")
    for name, value in case.view.items():
        setattr(view, name, value)
    if case.params:
        rule.params = type(rule).Params(**case.params)
    findings: list[Finding] = []
    for item in case.play():
        found: Finding | None = None
        if isinstance(item, Sample):
            view.step, view.branch = item.step, item.branch
            found = rule.observe(item, view)
        elif isinstance(item, Tick):
            for name, value in item.facts.items():
                setattr(view, name, value)
            found = rule.tick(view, item.now)
        else:
            rule.happened(item, view)
        if found is not None:
            findings.append(found)
    return findings
