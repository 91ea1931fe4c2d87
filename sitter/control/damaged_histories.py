"""Damaged histories that lie beside the present one: nobody shall learn of them by chance."""

from collections.abc import Callable

from sitter.control.present import Present
from sitter.store.aside import aside
from sitter_wire.places import RunDir

TOLD_ASIDE = "told_aside"
"""Kept in the history: the names of those that were told of."""


class DamagedHistories:
    """The logbook and whoever is to be told hear of each once, the status as long as it is there."""

    def __init__(
        self, run: RunDir, present: Present, told: list[str] | None, *, log_entry: Callable[..., None],
        tell: Callable[[str, str, str], None], keep: Callable[[str, object], None],
    ) -> None:  # fmt: skip
        self._run, self._present, self._told = run, present, told or []
        self._log, self._tell, self._keep = log_entry, tell, keep
        self._there: list[str] = []

    def say(self) -> None:
        """Look for them, once, at the daemon's start."""
        self._there = aside(self._run.history)
        new = [name for name in self._there if name not in self._told]
        for name in new:
            text = f"the history was damaged and is kept as {name}; this one begins with what the recorder still held"
            self._log("note", step=self._present.step, branch=self._present.branch, status="warning", detail=text)
            self._tell("daemon_gone", f"{self._run.name}: {text}", name)
        if new:
            self._keep(TOLD_ASIDE, self._there)

    def sentence(self) -> str:
        """For the status; empty where there are none."""
        lie = ", ".join(self._there)
        return f"the history was damaged: what was in it lies in {lie}, and this one was begun after it" if lie else ""
