"""Which checkpoints are good, and which of these is the best by the goal."""

import math
from collections.abc import Callable

import msgspec

from sitter.control.present import Present
from sitter.model import CheckpointInfo
from sitter.rules.engine import Engine
from sitter.store.lines import line
from sitter.store.reader import Reader
from sitter.store.writer import Writer


class GoodCheckpoints:
    """Keeps ``good`` and ``best`` of the present's checkpoints true, here and in the history. Which may go is the agent's to decide, by the
    same two words."""

    def __init__(
        self, present: Present, engine: Engine, writer: Writer, log_entry: Callable[..., None], healthy_steps: int
    ) -> None:
        self._present, self._engine, self._writer, self._log = present, engine, writer, log_entry
        self._healthy_steps = healthy_steps
        self._goal = ""
        self._scores: dict[str, float] = {}

    def recall(self, reader: Reader) -> None:
        """What the goal was at checkpoints of the past. Raises StoreError."""
        if self._present.goal is None:
            return
        self._goal = self._present.goal[0]
        for info in self._on_line():
            score = reader.value_at(self._goal, info.step)
            if score is not None and math.isfinite(score):
                self._scores[info.path] = score

    def look(self) -> None:
        """Once a second."""
        for info in list(self._present.checkpoints.values()):
            healthy = 0 if info.good else self._engine.healthy_steps_since(info.branch, info.step)
            if not info.good and healthy >= self._healthy_steps:
                self._note(msgspec.structs.replace(info, good=True))
                said = f"{healthy} healthy steps followed it"
                self._log("checkpoint", step=info.step, branch=info.branch, status="good", detail=said)
        best = self._best()
        for info in list(self._present.checkpoints.values()):
            if info.best != (info.path == best):
                self._note(msgspec.structs.replace(info, best=not info.best))

    def _best(self) -> str | None:
        """Path of the best good checkpoint on the present line of branches; None where no goal is known of any."""
        goal, present = self._present.goal, self._present
        if goal is None:
            return None
        if goal[0] != self._goal:
            self._goal, self._scores = goal[0], {}
        scored: list[tuple[float, int, str]] = []
        for info in self._on_line():
            score = self._scores.get(info.path)
            if score is None and (score := present.goal_at(info.step)) is not None:
                self._scores[info.path] = score
            if score is not None and info.good:
                scored.append((-score if goal[1] == "higher" else score, info.step, info.path))
        return min(scored)[2] if scored else None

    def _on_line(self) -> list[CheckpointInfo]:
        stretches = {s.branch: s for s in line(self._present.parents)}
        return [c for c in self._present.checkpoints.values() if (s := stretches.get(c.branch)) and (s.to is None or c.step <= s.to)]

    def _note(self, info: CheckpointInfo) -> None:
        self._present.checkpoints[info.path] = info
        self._writer.checkpoint(info)
