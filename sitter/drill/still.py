"""What the two hangs have in common: the cause and the line are said, the stacks are there, and looking has ended nothing."""

from typing import ClassVar

from sitter.drill.base import Ended, Fault, Noticed, Planted
from sitter.drill.scene import Failed, Scene
from sitter.drill.settings import Settings
from sitter.model import LogEntry
from sitter.supervise.process import TrainingProcess


class StillFault(Fault):
    """Planted by the agent; the rule ``stalled`` must see it. It notifies; with ``do = "restart"`` it would end it."""

    own: ClassVar[bool] = True
    kill_after_s: ClassVar[float] = 0.5
    settings: ClassVar[Settings] = {}
    says: ClassVar[str]
    """Words of the right cause."""
    line: ClassVar[str]
    """Words of the line on which it stands."""
    state: ClassVar[str]

    def plant(self, scene: Scene) -> Planted:
        """Once the rule knows how long a step takes."""
        scene.ready()
        about = scene.go(scene.patience(20))
        return Planted(what=about["what"], at=about["at"], step=about["step"])

    def notice(self, scene: Scene, planted: Planted) -> Noticed:
        """The finding, with cause and line."""

        def found(entry: LogEntry) -> bool:
            return entry.kind == "finding" and entry.rule == "stalled" and entry.time >= planted.at

        entry = scene.entry(found, 120.0, "a finding of the rule stalled")
        for words, what in ((self.says, "the cause"), (self.line, "the line")):
            if words not in entry.detail:
                raise Failed(f"{what} was expected to be told as {words!r}, found: {entry.detail}")
        return Noticed(what=entry.detail, at=entry.time)

    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """Stacks in a file, the state's own word, the process still there."""
        stacks = scene.entry(lambda e: e.status == "stacks" and e.time >= planted.at, 10.0, "the stacks of all threads")
        status = scene.until(lambda s: s.state == self.state, 30.0, f"the state {self.state}")
        reports = [p for p in scene.run.reports.glob("stacks-*.txt") if self.line in p.read_text(encoding="utf-8", errors="replace")]
        if not reports:
            raise Failed(f"a file with the stacks was expected in {scene.run.reports}, found none that names {self.line}")
        process = TrainingProcess.find(scene.run)
        if process is None or not process.alive():
            raise Failed("looking at a training from outside must end nothing, and it has ended")
        told = stacks.detail.splitlines()[0]
        return Ended(
            did=f"{told}; the state is {status.state}; somebody was told (what else follows is the rule's: do = \"restart\")",
            how="the training stands where it was made to, and lives; nothing of it is lost until somebody ends it", steps_lost=0,
        )  # fmt: skip
