"""Which steps are known to be healthy, on the present line of branches."""

from sitter.rules.guard_signs import CLEAN_POINTS

LINE = 512
"""Branches of the present line that are remembered."""


class Clearance:
    """``clear up to`` (branch, step): the last logged step before the newest ``CLEAN_POINTS`` logged points with no suspicion.

    Snapshots up to there may be trusted, checkpoints up to there begin to count towards good. It stands still while anything is
    suspicious and while a trip is open, and goes on three clean points later.
    """

    def __init__(self) -> None:
        self.clear: tuple[int, int] | None = None
        self.troubled: int | None = None
        """Last step of the present branch that was suspicious."""
        self.branch: int | None = None
        """The present one."""
        self._line: list[tuple[int, int]] = []  # (branch, the last step that it took over from the one before)
        self._recent: list[int] = []

    def begin(self, branch: int, step: int, *, parent: int | None = None, trusted: bool = False) -> None:
        """``branch`` goes on from ``step`` of ``parent`` (None: of the branch before). ``trusted``: that state was clear."""
        if parent is not None:
            while self._line and self._line[-1][0] != parent and len(self._line) > 1:
                self._line.pop()
        while len(self._line) > 1 and self._line[-1][1] > step:
            self._line.pop()  # branches that began after that step are no part of the line any more
        self._line.append((branch, step))
        del self._line[:-LINE]
        self.branch = branch
        self._recent.clear()
        self.troubled = None
        if trusted:
            self.clear = (branch, step)
        elif self.clear is not None and (self.clear[1] > step or not self.on_line(*self.clear)):
            self.clear = None

    def point(self, step: int, *, odd: bool, open_trip: bool) -> None:
        """A judged point of the present branch."""
        if odd:
            self.troubled = step
            self._recent.clear()
            return
        if open_trip:
            return
        recent = self._recent
        if recent and recent[-1] == step:
            return
        recent.append(step)
        if len(recent) > CLEAN_POINTS:
            self.clear = (self._line[-1][0], recent.pop(0))

    def healthy_since(self, branch: int, step: int) -> int:
        """Healthy steps that followed (branch, step): up to where all is clear, from the last suspicion after it on; 0 where that
        state is not on the present line."""
        if self.clear is None or not self.on_line(branch, step):
            return 0
        start = step if self.troubled is None else max(step, self.troubled)
        return max(0, self.clear[1] - start)

    def on_line(self, branch: int, step: int) -> bool:
        """Whether the state after that step of that branch is part of the present line."""
        for i, (b, took_over) in enumerate(self._line):
            if b == branch:
                left_at = self._line[i + 1][1] if i + 1 < len(self._line) else None
                return step >= took_over and (left_at is None or step <= left_at)
        return False
