"""What the faults have in common that the guard heals: it is noticed, put right, and the training goes on beyond it."""

import math
from typing import ClassVar

from sitter.drill.base import Ended, Fault, Noticed, Planted
from sitter.drill.scene import Failed, Scene
from sitter.model import Incident
from sitter_wire import drill

REACTION_S = 15.0
BEYOND = 30
"""Steps beyond the fault that the training must come."""


class GuardFault(Fault):
    """Planted inside the training, once a snapshot was cleared."""

    told: ClassVar[str] = drill.TELL

    def plant(self, scene: Scene) -> Planted:
        """At the next turn after it was asked for."""
        scene.ready()
        about = scene.go(scene.patience(20))
        return Planted(what=about["what"], at=about["at"], step=about["step"])

    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """The guard says so."""
        found = scene.entry(
            lambda e: e.kind == "finding" and e.rule == "guard" and e.time >= planted.at - 0.1 and e.status == "critical",
            scene.patience(100), "a finding of the guard",
        )  # fmt: skip
        return Noticed(what=found.detail, at=found.time)

    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """The incident is over, and the loss is finite well beyond it."""
        rule = scene.rule("guard")
        if rule is not None and rule.effective != "act":
            asks = "waits for an answer" if rule.effective == "ask" else "does nothing"
            raise Failed(f"the guard saw it and {asks}: in this set-up it may only {rule.effective}")
        scene.entry(
            lambda e: e.kind == "outcome" and e.rule == "guard" and e.time >= planted.at - 0.1, scene.patience(100, REACTION_S),
            "an action of the guard",
        )  # fmt: skip
        incident = self._over(scene, planted)
        verdict = incident.verdict or ""
        if not verdict.startswith("recovered"):
            raise Failed(f"the guard was expected to heal it, and says: {verdict}; {incident.text}")
        beyond = (planted.step or 0) + BEYOND
        status = scene.until(lambda s: s.state == "running" and (s.step or 0) > beyond, scene.patience(300), f"step {beyond:,}")
        loss = status.signals.get("loss")
        if loss is None or not math.isfinite(loss.last):
            raise Failed(f"a finite loss was expected at step {status.step:,}, found {loss.last if loss else 'none'}")
        outcomes = [e.detail for e in scene.book if e.kind == "outcome" and e.rule == "guard" and e.time >= planted.at - 0.1]
        return Ended(
            did="; ".join(dict.fromkeys(outcomes)), how=f"{verdict}; the training goes on at step {status.step:,}, loss {loss.last:.3g}",
            steps_lost=incident.steps_lost or 0,
        )  # fmt: skip

    def _over(self, scene: Scene, planted: Planted) -> Incident:
        for _ in scene.looks(scene.patience(500), "the end of the incident"):
            scene.read()
            for incident in scene.incidents():
                if incident.rule == "guard" and incident.began >= planted.at - 0.1 and incident.ended is not None:
                    return incident
        raise AssertionError
