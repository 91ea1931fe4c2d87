"""Runs the rules: over every point, every second, every event. Keeps copies of what they remember, for the restores."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import msgspec

from sitter.model import Finding
from sitter.rules.base import Rule, changes, wants
from sitter.rules.clearance import Clearance
from sitter.rules.guard_signs import is_training_loss
from sitter.rules.kinds import kind_by
from sitter.rules.view import RunView, Sample
from sitter_wire.events import CheckpointRemoved, CheckpointWritten, Restored, SessionStart, SnapshotTaken
from sitter_wire.records import Happening

log = logging.getLogger(__name__)

COPIES = 64
"""Copies of the rules' memory that are kept for snapshots; those that belong to a checkpoint come on top, at most as many."""


TIMED = 61
"""One point in so many is timed: to look at the clock for each rule and point would cost as much as most rules do. A prime number, since
points of several kinds take turns."""

MOST_ROUTES = 1024
"""Sets of names that are remembered. A script that makes up names for ever costs time, and no memory."""


BROKEN = "broken"
"""In the key of a finding which says that its rule was switched off."""


def is_switched_off(finding: Finding) -> bool:
    """Whether it says that its rule was switched off."""
    return finding.key == f"{finding.rule}:{BROKEN}"


class Timing(msgspec.Struct):
    """What a rule has cost. Seconds, of those ``calls`` that were timed."""

    calls: int = 0
    seconds: float = 0.0
    worst: float = 0.0


Asked = tuple[Rule, Callable[[Sample, RunView], Finding | None]]


class Route(NamedTuple):
    """Who is asked about points with certain names: the rules that want them (``timed``: and it is looked at what they cost), those of
    these that judge whether they are healthy, and all that may have a trip open."""

    asked: tuple[Asked, ...]
    timed: tuple[Asked, ...]
    judges: tuple[Rule, ...]
    tripping: tuple[Rule, ...]


class Engine:
    """All rules of one run. One thread. A rule that raises is switched off with one sentence; the daemon lives on."""

    def __init__(self, rules: list[Rule], view: RunView) -> None:
        self.rules, self.view = rules, view
        self.timings = {rule.name: Timing() for rule in rules}
        self.broken: dict[str, str] = {}
        self.clearance = Clearance()
        self._restoring = False
        self._past = False  # the newest sample was late
        self._copies: OrderedDict[tuple[int, int], dict[str, object]] = OrderedDict()
        self._of_checkpoints: dict[tuple[int, int], dict[str, object]] = {}
        self._paths: dict[str, tuple[int, int]] = {}
        self._seen: set[str] = set()
        self._points = 0
        self._newest: Sample | None = None
        self._pending: list[Finding] = []
        self._routes: dict[tuple[str, ...], Route] = {}
        self._having: dict[str, tuple[Rule, ...]] = {}

    # -- in --------------------------------------------------------------------------------------------------------------

    def observe(self, sample: Sample, late: bool = False) -> list[Finding]:
        """One logged point. ``late``: it is the past; what is found is marked so and proposes nothing. The same values once more at the
        same step are no other point."""
        if sample.branch != self.clearance.branch and not self._begins(sample):
            return []
        newest, self._newest = self._newest, sample
        if newest is not None and sample.step == newest.step and sample.branch == newest.branch and _same(sample.values, newest.values):
            return []
        self._points += 1
        names = tuple(sample.values)
        route = self._routes.get(names) or self._route(names)
        view = self.view
        view.step, view.branch, view.late = sample.step, sample.branch, late
        if self._restoring:
            return []
        findings, self._pending = self._pending, []
        for rule, observe in route.asked if self._points % TIMED else route.timed:
            try:
                found = observe(sample, view)
            except Exception as e:  # noqa: BLE001 — one bad rule must not end the daemon
                findings.append(self._switched_off(rule, e))
                continue
            if found is not None:
                findings.append(found)
        if route.judges:
            self._judge(sample, route)
        if late:
            self._past = True
            return [as_late(f) for f in findings]
        if self._past:
            findings += [f for f in self.catch_up_ended() if f.key not in {known.key for known in findings}]
        return findings

    def tick(self, now: float) -> list[Finding]:
        """Once a second; ``now`` is monotonic seconds."""
        return self._each("tick", self.view, now)

    def happened(self, h: Happening) -> None:
        """An event, in its place among the points."""
        event = h.event
        if isinstance(event, SnapshotTaken):
            self._copy((event.branch, event.step))
        elif isinstance(event, CheckpointWritten):
            self._pin(event)
        elif isinstance(event, CheckpointRemoved):
            self._of_checkpoints.pop(self._paths.pop(event.path, (-1, -1)), None)
        elif isinstance(event, Restored):
            self._go_back(event.from_branch, event.step)
            clear = self.clearance.clear
            trusted = clear is not None and event.step <= clear[1]
            self.clearance.begin(event.branch, event.step, parent=event.from_branch, trusted=trusted)
            self._restoring = False
        elif isinstance(event, SessionStart):
            self._new_session(event, h.step)
        for rule in self._with("happened"):
            try:
                rule.happened(h, self.view)
            except Exception as e:  # noqa: BLE001
                self._pending.append(self._switched_off(rule, e))

    def restoring(self, until_branch_event: bool) -> None:
        """True when a restore was sent: records of the old branch trip nothing until its branch event. False when it was rejected, has
        expired or was never sent: trips may act again."""
        if until_branch_event:
            self._restoring = True
            return
        self._restoring = False
        for rule in self._with("refused"):
            try:
                rule.refused(self.view)
            except Exception as e:  # noqa: BLE001
                self._pending.append(self._switched_off(rule, e))

    def catch_up_ended(self) -> list[Finding]:
        """The past is read: trouble that still stands, with its actions."""
        self._past = False
        return [] if self._restoring else self._each("standing", self.view)

    def use(self, rules: list[Rule]) -> None:
        """Other rules from now on. Those that are the same objects keep what they know, and stay switched off where they were. What others
        of the same name remembered is nothing to those that take their place: a restore begins them anew."""
        stay = {rule.name for rule in rules if rule in self.rules}
        for copy in (*self._copies.values(), *self._of_checkpoints.values()):
            for name in copy.keys() - stay:
                del copy[name]
        self.rules = rules
        self.timings = {rule.name: self.timings.get(rule.name) or Timing() for rule in rules}
        self.broken = {name: why for name, why in self.broken.items() if name in stay}
        self._routes.clear()
        self._having.clear()

    def warm(self, rules: list[Rule], past: Iterable[Sample | Happening]) -> None:
        """Tell rules that have seen nothing what was before; what they find in it is told to nobody."""
        view = self.view
        present = view.step, view.branch, view.late
        view.late = True
        wanting: dict[tuple[str, ...], list[Rule]] = {}
        for item in past:
            told = rules
            if not isinstance(item, Happening):
                names = tuple(item.values)
                if names not in wanting:
                    wanting[names] = [rule for rule in rules if wants(rule, names)]
                told = wanting[names]
            for rule in told:
                if rule.name in self.broken:
                    continue
                try:
                    if isinstance(item, Happening):
                        rule.happened(item, view)
                    else:
                        view.step, view.branch = item.step, item.branch
                        rule.observe(item, view)
                except Exception as e:  # noqa: BLE001
                    self._pending.append(self._switched_off(rule, e))
        view.step, view.branch, view.late = present

    # -- out -------------------------------------------------------------------------------------------------------------

    @property
    def open_trip(self) -> bool:
        """Trouble is open: nothing is cleared, no snapshot should be taken."""
        return any([rule.open_trip for rule in self._with("open_trip")])

    @property
    def wants_stacks(self) -> bool:
        """A rule would first know where the training stands."""
        return any([rule.wants_stacks for rule in self._with("wants_stacks")])

    def clear(self) -> tuple[int, int] | None:
        """Snapshots up to (branch, step) may be trusted; None: none yet."""
        return self.clearance.clear

    def healthy_steps_since(self, branch: int, step: int) -> int:
        """Healthy steps that followed a state on the present line; 0 where it is not on it."""
        return self.clearance.healthy_since(branch, step)

    def watching(self) -> list[str]:
        """What the guard can judge of what is logged."""
        found: list[str] = [name for name in ("loss", "grad_norm") if name in self._seen]
        if "loss" not in self._seen:
            found += sorted(name for name in self._seen if is_training_loss(name))
        return found

    def blind(self) -> str:
        """Why the guard cannot guard; empty where it can."""
        guards = [rule for rule in self.rules if rule.guard]
        off = [rule.name for rule in guards if rule.name in self.broken]
        if off:
            return f"rule {off[0]} is switched off: {self.broken[off[0]]}"
        if not guards:
            return "the guard is off"
        if not self._points:
            return "nothing logged yet"
        if not self.watching():
            return "no loss signal"
        for rule in guards:
            limit = rule.limits(self.view)
            if limit:
                return limit
        return ""

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _judge(self, sample: Sample, route: Route) -> None:
        """What the rules that were asked think of it."""
        judged = odd = open_trip = False
        for rule in route.judges:
            suspicious = rule.suspicious
            if suspicious is not None and rule.name not in self.broken:
                judged, odd = True, odd or suspicious
        if judged:
            for rule in route.tripping:
                open_trip = open_trip or rule.open_trip
            self.clearance.point(sample.step, odd=odd, open_trip=open_trip)

    def _begins(self, sample: Sample) -> bool:
        """A sample of another branch than the present one. False: that was left. One that is newer than any event said (its event was lost)
        begins here."""
        present = self.clearance.branch
        if present is None or sample.branch > present:
            self.clearance.begin(sample.branch, sample.step)
            return True
        return False

    def _route(self, names: tuple[str, ...]) -> Route:
        """For points with these names; found once, and anew when a rule is switched off."""
        self._seen.update(names)
        view = self.view
        if not view.kind_said and view.kind == "supervised" and (kind := kind_by(self._seen)) != view.kind:
            view.kind, view.kind_by_names = kind, True
        wanting = [r for r in self._with("observe") if wants(r, names)]
        asked, timed = tuple((r, r.observe) for r in wanting), tuple((r, partial(self._timed, r)) for r in wanting)
        route = Route(asked, timed, tuple(r for r in wanting if changes(r, "suspicious")), self._with("open_trip"))
        if len(self._routes) < MOST_ROUTES:
            self._routes[names] = route
        return route

    def _working(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.name not in self.broken]

    def _with(self, method: str) -> tuple[Rule, ...]:
        """Those of them that do something there."""
        found = self._having.get(method)
        if found is None:
            found = self._having[method] = tuple(r for r in self._working() if changes(r, method))
        return found

    def _each(self, method: str, *args: Any) -> list[Finding]:
        findings, self._pending = self._pending, []
        began = time.perf_counter()
        for rule in self._with(method):
            try:
                found = getattr(rule, method)(*args)
            except Exception as e:  # noqa: BLE001
                findings.append(self._switched_off(rule, e))
                continue
            began = self._took(rule.name, began)
            if found is not None:
                findings.append(found)
        return findings

    def _timed(self, rule: Rule, sample: Sample, view: RunView) -> Finding | None:
        began = time.perf_counter()
        found = rule.observe(sample, view)
        self._took(rule.name, began)
        return found

    def _took(self, name: str, began: float) -> float:
        """Until now, which is returned: there the next begins."""
        now = time.perf_counter()
        timing, seconds = self.timings[name], now - began
        timing.calls += 1
        timing.seconds += seconds
        if seconds > timing.worst:
            timing.worst = seconds
        return now

    def _switched_off(self, rule: Rule, error: Exception) -> Finding:
        why = f"{type(error).__name__}: {error}"
        self.broken[rule.name] = why
        self._routes.clear()
        self._having.clear()
        log.error("rule %s raised and is switched off", rule.name, exc_info=error)
        return Finding(
            rule=rule.name, severity="warning", step=self.view.step or 0, branch=self.view.branch, onset=self.view.step or 0,
            text=f"rule {rule.name} failed and is switched off until it is changed or the daemon starts again: {why}",
            key=f"{rule.name}:{BROKEN}",
        )  # fmt: skip

    def _copy(self, at: tuple[int, int]) -> None:
        copies = self._copies
        copies[at] = {rule.name: rule.state() for rule in self._working()}
        copies.move_to_end(at)
        if len(copies) > COPIES:
            # Every other one of the older half goes: what is kept reaches far back, as the agent's snapshots do.
            keys = list(copies)
            for key in keys[1 : COPIES // 2 : 2]:
                del copies[key]

    def _pin(self, event: CheckpointWritten) -> None:
        at = (event.branch, event.step)
        if at in self._copies and len(self._of_checkpoints) < COPIES:
            self._of_checkpoints[at] = self._copies[at]
            self._paths[event.path] = at

    def _go_back(self, branch: int, step: int) -> None:
        """Rules remember what they did at that state; else what they did shortly before it; else they begin anew."""
        known = {**self._of_checkpoints, **self._copies}
        found = known.get((branch, step))
        if found is None:
            before = [at for at in known if at[1] <= step and self.clearance.on_line(*at)]
            found = known[max(before, key=lambda at: at[1])] if before else {}
        for rule in self._working():
            rule.set_state(found.get(rule.name))
        line = self.clearance
        for at in [at for at in self._copies if at[1] > step or not line.on_line(*at)]:
            del self._copies[at]

    def _new_session(self, event: SessionStart, step: int) -> None:
        """A new process: what was usual holds if it went on from a state that is known."""
        self._restoring = False
        if event.resumed is not None:
            self._go_back(*event.resumed)
            self.clearance.begin(event.branch, event.resumed[1], parent=event.resumed[0], trusted=True)
            return
        for rule in self._working():
            rule.set_state(None)
        self.clearance.begin(event.branch, step)
        self._copies.clear()


def _same(a: dict[str, float], b: dict[str, float]) -> bool:
    """The same names and values; NaN is the same as NaN here."""
    return a == b or (a.keys() == b.keys() and all(b[name] == x or (x != x and b[name] != b[name]) for name, x in a.items()))


def as_late(finding: Finding) -> Finding:
    """Of the past: it proposes nothing."""
    return msgspec.structs.replace(finding, actions=[], evidence={**finding.evidence, "late": 1})
