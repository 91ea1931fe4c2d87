"""A session as the writer's thread knows it."""


class KnownSession:
    """Its number, its clock pair, the last sequence taken."""

    def __init__(self, number: int, wall_ns: int, mono_ns: int, last: int) -> None:
        self.number, self.wall_ns, self.mono_ns, self.last = number, wall_ns, mono_ns, last
        self.branches: set[int] = set()

    def wall(self, mono_ns: int) -> float:
        """A monotonic time of this session (nanoseconds) as unix seconds."""
        return (self.wall_ns + mono_ns - self.mono_ns) / 1e9
