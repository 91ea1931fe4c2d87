"""Keeps what the rules see beside the values as new as what is known."""

from sitter.clock import Clock
from sitter.control.board import Board
from sitter.control.life import Life
from sitter.control.present import Present
from sitter.rules.view import RunView


class Sight:
    """Of one run."""

    def __init__(self, view: RunView, present: Present, board: Board, life: Life, clock: Clock) -> None:
        self._view, self._present, self._board, self._life, self._clock = view, present, board, life, clock

    def refresh(self) -> None:
        """Every second, and at every event before the rules hear of it."""
        p, view, now = self._present, self._view, self._clock.monotonic()
        tell(view, p)
        view.step, view.branch, view.steps_per_s = p.step, p.branch or 0, p.rate.per_s()
        view.host, view.gpus = self._board.host, self._board.gpus
        view.safe_point_age = None if p.last_safe_point is None else max(0.0, now - p.last_safe_point)
        view.agent_age = None if p.pong_at is None else max(0.0, now - p.pong_at)
        view.state = self._life.state()
        view.in_session = self._life.alive
        view.started = p.session.clock[1] if p.session and p.session.clock else None
        if self._life.silent_yet:
            view.started, view.safe_point_age, view.paused = self._life.since, None, False


def tell(view: RunView, present: Present) -> None:
    """What the run's events have said, whether it is live or replayed."""
    start = present.session.start if present.session else None
    if start is not None:
        view.clips = start.clips
        if start.kind:
            view.kind, view.kind_said, view.kind_by_names = start.kind, True, False
    if present.goal is not None:
        view.goal, view.better = present.goal[0], "higher" if present.goal[1] == "higher" else "lower"
    view.total, view.paused = present.total, present.paused
    view.scales = {name: scale for name, (scale, _) in present.scales.items()}
    view.checkpoints = sorted(present.checkpoints.values(), key=lambda c: c.time or 0.0)
