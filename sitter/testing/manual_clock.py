"""A clock that stands still until it is told to go on."""


class ManualClock:
    """Fits ``sitter.clock.Clock``; both readings move together by ``advance``."""

    def __init__(self, wall: float = 1_700_000_000.0, monotonic: float = 1000.0) -> None:
        self._wall, self._monotonic = wall, monotonic

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._monotonic

    def wall(self) -> float:
        """Unix seconds."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._wall += seconds
        self._monotonic += seconds
