"""Where the training stands: steps, turns, branches. Written on the training thread; the control thread reads single fields."""

from dataclasses import dataclass, field

from sitter_wire.phases import BEFORE


@dataclass(slots=True)
class Progress:
    """``done`` counts the full optimizer steps that the state has behind it; ``current`` is the step that values are logged under.

    In ``agent.loop`` a turn logs under the number of steps done before it, as ``range(total)`` would count; the safe point after
    it then has one more. A snapshot of step n is the state after n steps, and the loss logged at n is that state's loss.
    """

    branch: int = 0
    done: int = 0
    current: int = 0
    micro: int = 0
    total: int | None = None
    epoch: int | None = None
    line: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    """The present line of branches, oldest first, each with the step that it started after."""
    managed: bool = False
    """Whether a loop of ours counts; else the script's own does."""
    given: bool = False
    """Whether the script's own loop says its steps (``log(step=…)``)."""
    phase: str = BEFORE
    """In which part of a turn it is: one attribute write where it changes, 10 ns."""
    logged: int = -1
    """The last step that the script logged under…"""
    points: int = 0
    """…and how many there were."""
    safe_point_at: float | None = None
    paused: bool = False
    stopping: bool = False

    def say(self, step: int) -> int:
        """The script's own loop is at ``step``, which is returned as an int.

        Raises TypeError or ValueError where that is no whole number that can be recorded.
        """
        number = int(step)
        if not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"step {number:.3g} does not fit in 8 bytes: give the number of the optimizer's step")
        self.current, self.given = number, True
        return number

    def fork(self, branch: int, step: int) -> None:
        """A new branch starts after ``step`` of the present line: what came later is abandoned."""
        while len(self.line) > 1 and self.line[-1][1] > step:
            self.line.pop()
        self.line.append((branch, step))
        self.branch, self.done, self.current = branch, step, step

    def on_line(self, branch: int, step: int) -> bool:
        """Whether (branch, step) is an ancestor of the present state."""
        for i, (b, start) in enumerate(self.line):
            if b == branch:
                end = self.line[i + 1][1] if i + 1 < len(self.line) else None
                return start <= step and (end is None or step <= end)
        return False

    def place(self, branch: int) -> int | None:
        """How far along the present line a branch lies; None where it was abandoned or is not known."""
        for i, (b, _) in enumerate(self.line):
            if b == branch:
                return i
        return None
