"""Incidents: one trouble from onset to recovery, with what it cost."""

from collections.abc import Callable

import msgspec

from sitter.clock import Clock
from sitter.model import Finding, Incident
from sitter_wire.events import Restored


class Incidents:
    """Opens on a finding that matters, closes when its rule says recovered. One open incident per rule."""

    def __init__(
        self, clock: Clock, store: Callable[[Incident], None], known: list[Incident], log_entry: Callable[..., None]
    ) -> None:
        self._clock, self._store, self._log = clock, store, log_entry
        self._next = max((i.id for i in known), default=0) + 1
        self._open = {i.rule: i for i in known if i.ended is None}
        self.total = len(known)

    @property
    def open(self) -> list[Incident]:
        """Those that are not over."""
        return list(self._open.values())

    def found(self, finding: Finding) -> Incident | None:
        """A critical finding opens an incident, or belongs to the one its rule has open."""
        known = self._open.get(finding.rule)
        if known is not None or finding.severity != "critical":
            return known
        incident = Incident(
            id=self._next,
            rule=finding.rule,
            branch=finding.branch,
            onset=finding.onset,
            began=self._clock.wall(),
            text=finding.text,
        )
        self._next += 1
        self.total += 1
        self._keep(incident)
        return incident

    def restored(self, event: Restored) -> None:
        """Steps lost belong to the incident for whose sake the state was put back: the newest open one."""
        if not self._open:
            return
        newest = max(self._open.values(), key=lambda i: i.id)
        lost = (newest.steps_lost or 0) + max(0, event.left - event.step)
        self._keep(msgspec.structs.replace(newest, steps_lost=lost))

    def over(self, rule: str, verdict: str, said: Finding | None = None) -> Incident | None:
        """It is over, and the logbook has it. ``recovered, N steps lost`` where steps were lost: never ``helped``, it might have healed by
        itself. ``said``: the rule's last word on it; None: it has none, and nobody will say more of this incident."""
        incident = self._open.pop(rule, None)
        if incident is None:
            return None
        if incident.steps_lost:
            verdict = f"{verdict}, {incident.steps_lost} steps lost"
        now = self._clock.wall()
        ended = msgspec.structs.replace(incident, ended=now, verdict=verdict, seconds_lost=now - incident.began)
        self._store(ended)
        if said is not None:
            self._log("incident", step=said.step, branch=said.branch, rule=rule, status=verdict, detail=said.text)
        else:
            self._log("incident", branch=ended.branch, rule=rule, status="over", detail=f"{ended.text}: {verdict}")
        return ended

    def _keep(self, incident: Incident) -> None:
        self._open[incident.rule] = incident
        self._store(incident)
