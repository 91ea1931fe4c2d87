"""What rules have learned of a run outlives the daemon: else it would know the pauses of the last 5,000 points only."""

import logging
from collections.abc import Callable
from typing import Any

from sitter.clock import Clock
from sitter.rules.base import Rule

log = logging.getLogger(__name__)

EVERY_S = 60.0


class Learned:
    """What the rules know, into the history where it is new, once a minute at most."""

    def __init__(self, rules: dict[str, Rule], clock: Clock, keep: Callable[[str, object], None]) -> None:
        self._rules, self._clock, self._keep = rules, clock, keep
        self._kept: object = None
        self._at = clock.monotonic()

    def keep(self, *, at_once: bool = False) -> None:
        """Once a second; ``at_once``: something was just done, and the next daemon must know for what."""
        now = self._clock.monotonic()
        if now - self._at < EVERY_S and not at_once:
            return
        self._at = now
        told = {name: known for name, rule in self._rules.items() if (known := rule.knowledge()) is not None}
        if told and told != self._kept:
            self._kept = told
            self._keep("learned", told)

    def recall(self, told: dict[str, Any] | None) -> None:
        """What an earlier daemon kept."""
        for name, known in (told or {}).items():
            if name not in self._rules:
                continue  # taken out of sitter.toml since
            try:
                self._rules[name].know(known)
            except Exception as e:  # noqa: BLE001 — of another version: it learns anew
                log.warning("what rule %s had learned is not understood: %s", name, e)
