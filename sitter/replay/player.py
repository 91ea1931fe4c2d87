"""Tells a story to the rules: the real engine, the real dispatcher, and a clock that the data turn."""

import math
from collections.abc import Iterator

from sitter.config import Config
from sitter.control.dispatcher import Dispatcher
from sitter.control.present import Present, Session
from sitter.control.ruleset.build import build
from sitter.control.sight import tell
from sitter.grammar import spelled
from sitter.model import EntryKind, Finding, Mode, Severity, Struct
from sitter.replay.story import Began, Machine, Story
from sitter.rules.base import gave_up, recovered
from sitter.rules.engine import Engine
from sitter.rules.stalled import Stalled
from sitter.rules.view import RunView, Sample
from sitter_wire.records import Happening

MOST_TICKS = 7200
"""Of a silence no more seconds are told than this: every rule that waits for something has spoken by then."""


class Line(Struct, frozen=True):
    """``sitter replay --json`` (contract). ``acts``: it would have acted unasked, at once or after its delay."""

    step: int
    onset: int
    rule: str
    severity: Severity
    mode: Mode
    acts: bool
    action: str | None
    evidence: dict[str, float | int | str | None]
    text: str


class DataClock:
    """Both clocks at once, as far as the data have come."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def wall(self) -> float:
        """The same seconds: of the data's own clock."""
        return self.now


class Player:
    """Raises ConfigError for rules that cannot be used. One story each."""

    def __init__(self, config: Config, where: str) -> None:
        rules, chosen = build(config, where)
        self.clock = DataClock()
        self.view = RunView(clock=self.clock, scales={"lr": 1.0}, state="running")
        self.engine = Engine(rules, self.view)
        self._dispatcher = Dispatcher(chosen, config.mode, self.clock, self)
        self._rules = {rule.name: rule for rule in rules}
        self._stalled = next((rule for rule in rules if isinstance(rule, Stalled)), None)
        self._present = Present()
        self._acted = False
        self._second = -math.inf
        self._last: float | None = None
        self.samples = 0

    def play(self, story: Story) -> Iterator[Line]:
        """What the rules find, in order, as they would have found it."""
        view, engine, rate = self.view, self.engine, self._present.rate
        view.goal, view.better = story.goal, "higher" if story.better == "higher" else "lower"
        view.in_session = story.timed
        if not story.timed:  # nothing can be said of silences
            engine.use([rule for rule in engine.rules if rule is not self._stalled])
        for item in story.items:
            if isinstance(item, Sample):
                self.samples += 1
                if story.timed:
                    if item.time - self._second >= 1.0:
                        yield from self._pass(item.time)
                    rate.step(item.step, item.time)
                self._last = item.time
                if item.time > self.clock.now:
                    self.clock.now = item.time
                found = engine.observe(item)
                if found:
                    yield from self._lines(found)
            elif isinstance(item, Happening):
                self._happening(item)
            elif isinstance(item, Machine):
                yield from self._pass(item.time)
                view.host, view.gpus = item.host, item.gpus
            else:
                yield from self._began(item)
        if story.timed:
            yield from self._lines(engine.tick(self.clock.now))

    def _pass(self, until: float) -> Iterator[Line]:
        """The seconds up to a time, one by one."""
        if self._second == -math.inf or until - self._second > MOST_TICKS:
            self._second = until - (MOST_TICKS if self._second > -math.inf and self.view.in_session else 1.0)
        while until - self._second >= 1.0:
            self._second += 1.0
            self.clock.now = max(self.clock.now, self._second)
            self._sight()
            found = self.engine.tick(self._second)
            self._dispatcher.tick()
            if found:
                yield from self._lines(found)

    def _sight(self) -> None:
        """What else the rules see each second. What nobody wrote down (when the agent last answered, what the process did) is unknown."""
        view = self.view
        view.safe_point_age = None if self._last is None else max(0.0, self._second - self._last)
        view.steps_per_s = self._present.rate.per_s()
        if view.in_session:
            stands = self._stalled is not None and bool(self._stalled.stands)
            view.state = "paused" if view.paused else "stalled" if stands else "running" if view.step else "starting"

    def _began(self, item: Began) -> Iterator[Line]:
        if not item.alive:
            yield from self._pass(item.time)
        else:
            self._second, self._last = item.time, None
            self._present.rate.clear()
            self._present.session = Session(id=item.session, pid=0, clock=(0.0, 0.0))  # all is told by the wall clock
        self.view.in_session, self.view.started = item.alive, item.time

    def _happening(self, h: Happening) -> None:
        """As the daemon does: the facts first, then the rules."""
        self._present.happening(h)
        tell(self.view, self._present)
        self.engine.happened(h)

    def _lines(self, findings: list[Finding]) -> Iterator[Line]:
        for finding in findings:
            mode = self._dispatcher.mode_of(finding.rule)
            if mode == "off":
                continue
            self._acted = False
            if recovered(finding) or gave_up(finding):
                self._dispatcher.withdrawn(finding.key, "no longer true")
            else:
                self._dispatcher.finding(finding)
            waits = any(p.due is not None and any(f is finding for f in (p.finding, *p.also)) for p in self._dispatcher.proposals.values())
            yield Line(
                step=finding.step, onset=finding.onset, rule=finding.rule, severity=finding.severity, mode=mode, acts=self._acted or waits,
                action="; ".join(spelled(a) for a in finding.actions) or None, evidence=finding.evidence, text=finding.text,
            )  # fmt: skip

    # -- the dispatcher's hands: nothing is done, and what would have been is known ------------------------------------------

    def act(self, finding: Finding, by: str) -> None:
        """It would have acted."""
        self._acted = True

    def log(self, kind: EntryKind, finding: Finding, status: str, detail: str) -> None:
        """There is no logbook."""

    def spends(self, finding: Finding) -> bool:
        """As the rule says."""
        return self._rules[finding.rule].spends(finding)

    def budget_spent(self, finding: Finding) -> None:
        """Nobody is told."""

    def refused(self, rule: str) -> None:
        """Nobody vetoes."""

    def keep(self, key: str, value: object) -> None:
        """Nothing outlives a replay."""

